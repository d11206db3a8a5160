"""Exports: what is packed comes out as it was, on any machine, and what was tampered with does not come out at all."""

import io
import json
import stat
import zipfile
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsim.costs import LayerCost, TransferCost
from hetsim.costs.export import write_export
from hetsim.costs.files import write_layer_costs, write_transfer_costs
from hetsim.costs.merge import merge
from hetsim.costs.sources import CostSource, NetworkCosts, Placed, read_source
from hetsim.errors import CostError, InputError

PRINT = {"torch": "2.13.0", "threads": 1}
SAMPLE = {"schema_version": 1, "kind": "layers", "network": "vgg", "fingerprint": PRINT}


def sample_line(key, device_type):
    return json.dumps(SAMPLE | {"key": key, "device_type": device_type}) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A folder as a calibration leaves it."""
    path = tmp_path / "office"
    write_layer_costs(path / "vgg.csv", [LayerCost(kind, "l0", 4, 0.1, 0.2, samples=9) for kind in ("K80", "V100")], ["why"])
    write_layer_costs(path / "gpt.csv", [LayerCost("V100", "l0", 4, 0.1, 0.2)])
    write_transfer_costs(path / "transfers.csv", [TransferCost("send_recv", ("a0", "b0"), 8, 1e-5)], ["10 Gbit/s"])
    (path / "samples.jsonl").write_text(sample_line("a", "K80") + sample_line("b", "V100") + sample_line("c", "V100")[:30])
    return path


def same(one: CostSource, other: CostSource):
    """Whether two sources hold the same, wherever they stand."""

    def bare(source):
        networks = [(n.network, [p.row for p in n.rows], n.notes, n.fingerprints) for n in source.networks]
        samples = [(s.key, s.text) for s in source.samples]
        return source.name, networks, [p.row for p in source.transfers], source.transfer_notes, samples

    return bare(one) == bare(other)


def test_a_folder_is_read_with_what_is_known_of_it(folder):
    source = read_source(folder)
    assert source.name == "office"
    assert [costs.network for costs in source.networks] == ["gpt", "vgg"]
    gpt, vgg = source.networks
    assert vgg.fingerprints == {"K80": (PRINT,), "V100": (PRINT,)}
    assert gpt.fingerprints == {}
    assert vgg.rows[1].where == f"{folder / 'vgg.csv'}:5:1"
    assert source.table("vgg").transfers == (TransferCost("send_recv", ("a0", "b0"), 8, 1e-5),)
    assert read_source(folder / "vgg.csv").networks[0].fingerprints == vgg.fingerprints
    with pytest.raises(CostError, match=r'has no costs of the network vg\. Did you mean "vgg"'):
        source.only("vg")


@pytest.mark.parametrize("name", ["out", "out.zip", "new/folders/out"])
def test_an_export_holds_what_was_exported(folder, tmp_path, name):
    source = read_source(folder)
    write_export(tmp_path / name, source, ["office"])
    back = read_source(tmp_path / name)
    assert same(back, source)
    assert back.measured_utc == source.measured_utc
    assert not list((tmp_path / name).parent.glob(".*.tmp"))
    write_export(tmp_path / "again.zip", back, ["office"])
    assert same(read_source(tmp_path / "again.zip"), source)


def test_an_export_is_usable_as_the_costs_of_a_scenario(folder, tmp_path):
    from hetsim.costs.files import read_cost_table

    write_export(tmp_path / "out", read_source(folder), [])
    assert read_cost_table(tmp_path / "out", "vgg").layers == read_cost_table(folder, "vgg").layers


def test_nothing_is_written_over(folder, tmp_path):
    source = read_source(folder)
    (tmp_path / "empty").mkdir()
    write_export(tmp_path / "empty", source, [])
    (tmp_path / "file.zip").write_text("precious")
    for taken in ("empty", "file.zip", "office"):
        with pytest.raises(InputError, match="is there already"):
            write_export(tmp_path / taken, source, [])
    assert (tmp_path / "file.zip").read_text() == "precious"


def test_an_export_that_was_changed_is_refused_with_all_files(folder, tmp_path):
    out = tmp_path / "out"
    write_export(out, read_source(folder), [])
    (out / "vgg.csv").write_text((out / "vgg.csv").read_text().replace("0.1", "0.3"))
    (out / "samples.jsonl").unlink()
    with pytest.raises(CostError) as caught:
        read_source(out)
    assert [p.where for p in caught.value.problems] == [str(out / "vgg.csv"), str(out / "samples.jsonl")]
    (out / "manifest.json").unlink()
    assert read_source(out).networks[1].rows[0].row.forward_s == 0.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version: got 2, expected 1"),
        ({"schema_version": True}, "schema_version: got true, expected 1"),
        ({"name": 3}, "name: got 3, expected a text"),
        ({"networks": {}}, "networks: got an empty mapping, expected a list of mappings"),
        ({"networks": [{"network": "vgg", "fingerprints": {"K80": 3}}]}, "networks.0.fingerprints: expected a mapping"),
        (
            {"files": [{"path": "../vgg.csv", "size_bytes": 1, "sha256": ""}]},
            'files.0.path: got "../vgg.csv", expected a plain',
        ),
        ({"files": [{"path": "/etc/passwd", "size_bytes": -1, "sha256": 0}]}, "files.0.size_bytes: got -1"),
        ({"files": "all"}, 'files: got "all"'),
    ],
)
def test_faulty_manifests(folder, tmp_path, change, said):
    out = tmp_path / "out"
    write_export(out, read_source(folder), [])
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(CostError) as caught:
        read_source(out)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"format": "hetsim costs", "schema_version": NaN}', "\x00"])
def test_manifests_that_are_no_json(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CostError, match=r"manifest\.json"):
        read_source(folder)


def archive_of(path, members):
    """An archive of (name, content, mode) members, whatever they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, content)


def test_an_archive_unpacks_nowhere_but_where_it_should(tmp_path):
    regular, link = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
    bad = ["../evil.csv", "/tmp/evil.csv", "sub/evil.csv", ".hidden", "a\\b.csv", "C:evil.csv", "x" * 200]
    members = [*((name, "x", regular) for name in bad), ("link.csv", "/etc/passwd", link)]
    archive_of(tmp_path / "evil.zip", members)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CostError) as caught:
        read_source(tmp_path / "evil.zip")
    assert len(caught.value.problems) == len(members)
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_that_lie_or_are_none(folder, tmp_path):
    good = tmp_path / "good.zip"
    write_export(good, read_source(folder), [])
    content = good.read_bytes()
    spoilt = {
        "torn": content[: len(content) // 2],
        "empty": b"",
        "text": b"device_type,layer\n",
        "flipped": content.replace(content[60:70], bytes(10), 1),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("vgg.csv", "# hetsim costs 1\n")
    spoilt["no-manifest"] = stream.getvalue()
    for name, data in spoilt.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        with pytest.raises(CostError) as caught:
            read_source(path)
        assert all(problem.where.startswith(str(path)) for problem in caught.value.problems), name
    with pytest.raises(CostError, match="there is no such file"):
        read_source(tmp_path / "none.zip")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("hetsim.costs.archive._MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vgg.csv", bytes(100_000))
    with pytest.raises(CostError, match="unpacks to 100000 bytes, expected 1000 at most"):
        read_source(tmp_path / "bomb.zip")


def test_faults_in_an_archive_are_named_by_the_archive(folder, tmp_path):
    (folder / "vgg.csv").write_text("# hetsim costs 1\ndevice_type,layer,microbatch,forward_s,backward_s\nV100,l,1,x,0\n")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    from hetsim.costs.archive import write_archive
    from hetsim.costs.manifest import FileDigest, Manifest

    digests = tuple(FileDigest.of(name, content) for name, content in files.items())
    manifest = Manifest("office", "now", None, "0", (), {}, digests)
    write_archive(tmp_path / "a.zip", {"manifest.json": manifest.to_json().encode(), **files})
    with pytest.raises(CostError) as caught:
        read_source(tmp_path / "a.zip")
    assert f"{tmp_path / 'a.zip'}/vgg.csv:3:10" in str(caught.value)


def test_the_same_costs_pack_to_the_same_bytes_but_for_the_manifest(folder, tmp_path):
    for name in ("a.zip", "b.zip"):
        write_export(tmp_path / name, read_source(folder), [])
    one, other = (zipfile.ZipFile(tmp_path / name) for name in ("a.zip", "b.zip"))
    with one, other:
        assert one.namelist() == other.namelist()
        assert all(one.read(name) == other.read(name) for name in one.namelist() if name != "manifest.json")


# --- property: export, merge, read ----------------------------------------------------------------------------------------

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
costs = st.builds(
    LayerCost,
    device_type=st.sampled_from(["K80", "V100", "A 100"]),
    layer=words,
    microbatch=st.integers(1, 512),
    forward_s=st.floats(0, 1e6),
    backward_s=st.floats(0, 1e6),
    samples=st.integers(0, 50),
    spread=st.floats(0, 1),
    in_flight=st.integers(1, 4),
)


def point(row):
    return row.device_type, row.layer, row.tensor_parallel, row.in_flight, row.microbatch


tables = st.dictionaries(words.filter(lambda w: w != "transfers"), st.lists(costs, min_size=1, unique_by=point), min_size=1)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables, split=st.integers(0, 99), data=st.data())
def test_parts_that_were_exported_merge_to_the_whole(tmp_path_factory, rows, split, data):
    """Cut the rows of each network in two at random, export each half its own way, merge: every row is there, once."""
    folder = tmp_path_factory.mktemp("merge")
    if len({name.lower() for name in rows}) < len(rows):
        return
    halves: list[list[NetworkCosts]] = [[], []]
    for network, mine in rows.items():
        cut = data.draw(st.integers(0, len(mine)))
        for half, part in zip(halves, (mine[:cut], mine[cut:]), strict=True):
            if part:
                half.append(NetworkCosts(network, tuple(Placed(row, "") for row in part)))
    paths = []
    for number, half in enumerate(half for half in halves if half):
        paths.append(folder / (f"{number}.zip" if split % 2 else str(number)))
        write_export(paths[-1], CostSource("half", "", tuple(half)), [])
    merged = merge([read_source(path) for path in paths], "whole").source
    write_export(folder / "whole.zip", merged, [])
    back = read_source(folder / "whole.zip")
    assert {n.network: {p.row for p in n.rows} for n in back.networks} == {name: set(mine) for name, mine in rows.items()}
    assert sum(len(n.rows) for n in back.networks) == sum(map(len, rows.values()))
    twice = merge([back, replace(back, path="copy")], "whole")
    assert twice.replaced == 0
    assert [[p.row for p in n.rows] for n in twice.source.networks] == [[p.row for p in n.rows] for n in back.networks]
