"""The chain file: what is written is read back, and every fault of a file is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.errors import NetworkError
from hetsim.workload import Chain, Layer
from hetsim.workload_files import chain_from_json, chain_to_json

counts = st.integers(0, 2**70)
names = st.text(min_size=1)
layers = st.builds(
    Layer,
    names,
    st.lists(counts, max_size=4).map(tuple),
    counts,
    counts,
    st.floats(0, allow_nan=False, allow_infinity=False),
)
chains = st.builds(
    Chain, names, st.lists(layers, min_size=1, max_size=5, unique_by=lambda layer: layer.name).map(tuple), counts,
    st.integers(1, 8),
)  # fmt: skip


@given(chains)
def test_what_is_written_is_read_back(chain):
    assert chain_from_json(chain_to_json(chain), "net.json") == chain


CHAIN = Chain("net", (Layer("a", (3, 4), 8, 16, 24.0), Layer("b")), input_bytes_per_sample=12)


def test_the_file_is_json_with_units_in_its_keys():
    document = json.loads(chain_to_json(CHAIN))
    assert document == {
        "schema_version": 1,
        "name": "net",
        "input_bytes_per_sample": 12,
        "element_bytes": 4,
        "layers": [
            {
                "name": "a",
                "parameters": [3, 4],
                "output_bytes_per_sample": 8,
                "saved_bytes_per_sample": 16,
                "forward_flops_per_sample": 24.0,
            },
            {
                "name": "b",
                "parameters": [],
                "output_bytes_per_sample": 0,
                "saved_bytes_per_sample": 0,
                "forward_flops_per_sample": 0.0,
            },
        ],
    }


def faults_of(text):
    with pytest.raises(NetworkError) as raised:
        chain_from_json(text, "net.json")
    return str(raised.value).splitlines()


def test_every_fault_is_named():
    document = json.loads(chain_to_json(CHAIN))
    document |= {"schema_version": 2, "element_bytes": 0, "extra": 1}
    del document["input_bytes_per_sample"]
    document["layers"][0] |= {
        "parameters": [3, -4],
        "output_bytes_per_sample": 1.5,
        "forward_flops_per_sample": float("inf"),
    }
    document["layers"][1] |= {"name": "a", "saved_bytes_per_sample": True}
    document["layers"].append(7)
    assert faults_of(json.dumps(document)) == [
        "net.json: extra: is an unknown key, expected schema_version, name, layers, input_bytes_per_sample, element_bytes",
        "net.json: schema_version: got 2, expected 1",
        "net.json: input_bytes_per_sample: is missing",
        "net.json: element_bytes: got 0, expected a whole number of 1 or more",
        "net.json: layers.0.parameters: got a list, expected a list of whole numbers",
        "net.json: layers.0.output_bytes_per_sample: got 1.5, expected a whole number of 0 or more",
        "net.json: layers.0.forward_flops_per_sample: got inf, expected a number of 0 or more",
        "net.json: layers.1.saved_bytes_per_sample: got true, expected a whole number of 0 or more",
        "net.json: layers.2: got 7, expected a mapping of keys to values",
        'net.json: layers: the name "a" stands 2 times, expected once',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": ,}', "net.json:1:10: is not JSON: Expecting value"),
        ("[]", "net.json: the whole: got an empty list, expected a mapping of keys to values"),
    ],
)
def test_what_is_no_chain_at_all(text, message):
    assert faults_of(text) == [message]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000])
def test_json_that_python_cannot_hold(text):
    (fault,) = faults_of(text)
    assert fault.startswith("net.json: is no JSON that can be read: ")


def test_a_chain_without_layers():
    document = json.loads(chain_to_json(CHAIN)) | {"layers": []}
    assert faults_of(json.dumps(document)) == ["net.json: layers: got an empty list, expected a list of one layer or more"]
