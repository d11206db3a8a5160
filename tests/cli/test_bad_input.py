"""Bad input: exit code 2, a message that says where and what, and nothing half-written."""

import shutil

import pytest

SCENARIO = """\
hetsim: 1
name: pair
networks:
  blocks:
    layers: [{name: block, repeat: 4, parameters: 1000, output: 4 KiB, saved: 16 MiB, flops: 1.0e6}]
    costs: costs.csv
training: {global_batch: 8}
cluster:
  device_types: {A: {memory: 1 GiB}, B: {memory: 1 GiB}}
  nodes: [{name: box, devices: {A: 1, B: 1}, link: {latency: 10 us, bandwidth: 10 GB/s}}]
"""

COSTS = "# hetsim costs 1\ndevice_type,layer,microbatch,forward_s,backward_s\n" + "".join(
    f"{kind},block.{i},{size},{size * seconds},{2 * size * seconds}\n"
    for kind, seconds in (("A", 0.001), ("B", 0.002))
    for i in range(4)
    for size in (1, 8)
)


@pytest.fixture
def pair(tmp_path):
    """A good scenario with its costs, to be spoilt."""
    (tmp_path / "costs.csv").write_text(COSTS)
    path = tmp_path / "pair.yaml"
    path.write_text(SCENARIO)
    return path


def test_the_good_scenario_plans_two_to_one(hetsim, pair):
    document = hetsim.json("plan", pair)
    batch_splits = [row["plan"] for row in document["candidates"] if "|" in row["plan"]]
    assert "a0[0:4] 5/1 | b0[0:4] 3/1" in batch_splits
    assert len(hetsim.runs()) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("devices: {A: 1, B: 1}", "devices: {A: 1, C: 1}", r"pair.yaml:10:"),
        ("global_batch: 8", "global_batch: 1", r"pair.yaml:7:"),
        (
            "layers: [{name: block, repeat: 4, parameters: 1000, output: 4 KiB, saved: 16 MiB, flops: 1.0e6}]",
            "layers: []",
            r"pair.yaml:5:",
        ),
        ("latency: 10 us", "latency: soon", r"pair.yaml:10:"),
        ("costs: costs.csv", "costs: none.csv", r"pair.yaml:6:"),
        ("hetsim: 1\n", "", "pair.yaml:1:"),
        ("hetsim: 1\n", "hetsim: 1\n\x00", "pair.yaml"),
    ],
)
def test_a_spoilt_scenario_is_refused_with_its_place(hetsim, pair, old, new, said):
    pair.write_text(pair.read_text().replace(old, new))
    done = hetsim("plan", pair)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert hetsim.runs() == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("A,block.0,1,0.001,", "A,block.0,1,nan,", "costs.csv:3:"),
        ("A,block.0,1,0.001,", "A,block.0,1,-0.001,", "costs.csv:3:"),
        ("A,block.0,1,0.001,", "A,block.0,1,", "costs.csv:3:"),
        ("# hetsim costs 1\n", "PK\x03\x04", "costs.csv"),
        (COSTS[300:], "", "costs.csv"),
    ],
)
def test_a_spoilt_cost_file_is_refused_with_its_place(hetsim, pair, old, new, said):
    costs = pair.parent / "costs.csv"
    costs.write_text(costs.read_text().replace(old, new))
    done = hetsim("plan", pair)
    assert done.returncode == 2
    assert said in done.stderr
    assert hetsim.runs() == []


def test_a_missing_cost_is_named(hetsim, pair):
    costs = pair.parent / "costs.csv"
    costs.write_text(
        "".join(line for line in costs.read_text().splitlines(keepends=True) if not line.startswith("B,block.2"))
    )
    done = hetsim("plan", pair)
    assert done.returncode == 2
    assert "no cost for layer block.2 on B" in done.stderr


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("a0[0:4] 8/1 | z[0:4] 0/1", "unknown device z"),
        ("a0[0:3] 8/1", "does not cover the 4 layers"),
        ("a0[0:4] 7/1", "add up to 7"),
        ("a0[0:4] > b0[4:4] 8/1", "does not cover"),
        ("what", "cannot read"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "run"])
def test_a_bad_plan_is_refused(hetsim, pair, command, plan, said):
    done = hetsim(command, pair, "--plan", plan)
    assert done.returncode == 2
    assert said in done.stderr
    assert hetsim.runs() == []


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers(hetsim, pair):
    pair.write_text(SCENARIO.replace("A: {memory: 1 GiB}", "A: {memory: 100 MiB}"))
    done = hetsim("predict", pair, "--plan", "a0[0:4] 8/1")
    assert done.returncode == 2
    assert "a0 needs 512 MiB and has 100 MiB" in done.stderr


def test_nothing_fits_is_exit_code_3(hetsim, pair):
    pair.write_text(SCENARIO.replace("memory: 1 GiB", "memory: 1 MiB"))
    done = hetsim("plan", pair)
    assert done.returncode == 3
    assert "error[infeasible]" in done.stderr


def test_a_plan_outside_the_search_is_predicted_though_nothing_in_it_fits(hetsim, pair):
    scenario = (
        SCENARIO.replace("memory: 1 GiB", "memory: 300 MiB") + "search: {strategies: [model_parallel], microbatches: [1]}\n"
    )
    pair.write_text(scenario.replace("saved: 16 MiB", "saved: 20 MiB"))
    assert hetsim("plan", pair).returncode == 3
    (row,) = hetsim.json("predict", pair, "--plan", "a0[0:4] 4/4 | b0[0:4] 4/4")["predictions"]
    assert (row["name"], row["plan"]) == ("plan 1", "a0[0:4] 4/4 | b0[0:4] 4/4")


@pytest.mark.parametrize(
    "words", [["fly"], ["plan"], ["plan", "--network"], ["plan", "x.yaml", "--fromat", "json"], ["plan", "none.yaml"]]
)
def test_bad_usage_is_exit_code_2(hetsim, words):
    done = hetsim(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr


def test_an_unknown_network_is_named_with_the_known_ones(hetsim, pair):
    done = hetsim("plan", pair, "--network", "blokcs")
    assert done.returncode == 2
    assert "it has blocks" in done.stderr


def test_a_plan_is_told_which_of_several_networks_it_does_not_fit(hetsim, pair):
    first, rest = SCENARIO.split("training:", 1)
    longer = first.split("networks:\n", 1)[1].replace("blocks:", "longer:").replace("repeat: 4", "repeat: 5")
    pair.write_text(f"{first}{longer}training:{rest}")
    done = hetsim("predict", pair, "--plan", "a0[0:5] 8/1")
    assert done.returncode == 2
    assert 'blocks, plan "a0[0:5] 8/1": replica 0 does not cover the 4 layers' in done.stderr
    assert "If it is meant for another network: --network longer" in done.stderr


def test_live_commands_refuse_what_cannot_be_measured(hetsim, pair):
    done = hetsim("calibrate", pair)
    assert done.returncode == 2
    assert "nothing to measure" in done.stderr
    done = hetsim("run", pair)
    assert done.returncode == 2


def test_a_foreign_scenario_is_refused(hetsim, tmp_path):
    picture = tmp_path / "picture.yaml"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    done = hetsim("plan", picture)
    assert done.returncode == 2
    assert "PNG" in done.stderr
    shutil.copy(picture, tmp_path / "cut.yaml")
    (tmp_path / "cut.yaml").write_text(SCENARIO[:200])
    assert hetsim("plan", tmp_path / "cut.yaml").returncode == 2
