"""`hetsim import`: from somebody else's profile to a plan, by the commands alone."""

import json

import pytest

NODE = "node{} -- Linear(8, 8) -- forward_compute_time={}, backward_compute_time={}, activation_size=320.0, parameter_size=4000.0"
GRAPH = "\n".join(
    [NODE.format(i, 2.0 * i, 4.0 * i) for i in range(1, 5)] + [f"\tnode{i} -- node{i + 1}" for i in range(1, 4)]
)
TIMES = {"OPT": {gpu: {str(size): {"1": {str(layer): [seconds * size, 2 * seconds * size, 0.001] for layer in range(4)}}
                       for size in (1, 4, 16)} for gpu, seconds in (("A100", 0.001), ("V100", 0.003))}}  # fmt: skip
SIZES = {
    "OPT": {"1": {str(layer): {"params_floats": 100, "act_output_floats": 10, "act_mem_floats": 20} for layer in range(4)}}
}


def test_a_profile_of_pipedream_is_planned(hetsim, tmp_path):
    """Costs of 1 : 2 : 3 : 4 over two like devices: the best two stages are 3 | 1 layers, or data parallel at half the time."""
    (tmp_path / "graph.txt").write_text(GRAPH)
    words = ["--device-type", "V100", "--microbatch", "8", "--network", "mlp", "--scenario", "mlp.yaml"]
    document = hetsim.json("import", "graph.txt", *words)
    assert document["schema_version"] == 1
    assert document["out"] == "costs/mlp.csv"
    assert document["totals"] == [
        {
            "device_type": "V100",
            "microbatch": 8,
            "layers": 4,
            "forward_s": pytest.approx(0.02),
            "backward_s": pytest.approx(0.04),
        }
    ]
    planned = hetsim.json("plan", "mlp.yaml")
    assert planned["networks"][0]["chosen"] == "v100-0[0:4] 4/1 | v100-1[0:4] 4/1"
    assert planned["networks"][0]["step_s"] == pytest.approx(0.03, rel=0.01)
    stages = [row["plan"] for row in planned["candidates"] if ">" in row["plan"]]
    assert any(plan.startswith("v100-0[0:3] > v100-1[3:4]") for plan in stages)


def test_a_profile_of_sailor_is_planned_with_all_its_gpus(hetsim, tmp_path):
    """A GPU three times as fast takes three quarters of the batch."""
    (tmp_path / "profiles.json").write_text(json.dumps(TIMES))
    (tmp_path / "llm_info.json").write_text(json.dumps(SIZES))
    done = hetsim("import", "profiles.json", "--sizes", "llm_info.json", "--scenario", "deep/down/opt.yaml")
    assert done.returncode == 0, done.stderr
    planned = hetsim.json("plan", "deep/down/opt.yaml")["networks"][0]
    assert planned["chosen"] == "a100-0[0:4] 12/1 | v100-0[0:4] 4/1"


def test_a_curve_is_planned(hetsim, tmp_path):
    (tmp_path / "curve.csv").write_text("batch,seconds,device\n1,0.1,K80\n16,1.6,K80\n1,0.1,V100\n16,0.4,V100\n")
    done = hetsim("import", "curve.csv", "--parameters", "1000", "--out", "net-costs.csv", "--scenario", "net.yaml")
    assert done.returncode == 0, done.stderr
    assert "is an assumption" in done.stderr
    assert hetsim.json("costs", "show", "net-costs.csv")["tables"][0]["rows"][0]["provenance"] == "specified"
    assert "v100-0[0:1] 13/1" in hetsim.json("plan", "net.yaml")["networks"][0]["chosen"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["graph.txt"], "Say it: --microbatch SAMPLES"),
        (
            ["curve.csv", "--device-type", "a", "--scenario", "x.yaml"],
            "Say how many parameters the network has: --parameters N",
        ),
        (["profiles.json", "--scenario", "x.yaml"], "Name Sailor's file of sizes: --sizes llm_info.json"),
        (["profiles.json", "--out", "curve.csv"], "curve.csv: is there already"),
        (["profiles.json", "--network", "a b"], 'got the network "a b"'),
        (["curve.csv", "--device-type", "a/b"], 'got the device type "a/b"'),
        (["curve.csv", "--device-type", "a", "--backward-share", "1.5"], "backward-share"),
        (["picture.png"], "it looks like a PNG image"),
        (["folder"], "cannot be read"),
        (["none.txt"], "there is no such file"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing(hetsim, tmp_path, words, said):
    (tmp_path / "graph.txt").write_text(GRAPH)
    (tmp_path / "curve.csv").write_text("batch,seconds\n8,1\n")
    (tmp_path / "profiles.json").write_text(json.dumps(TIMES))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    done = hetsim("import", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
