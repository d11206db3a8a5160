"""What real runs say of the costs: the known slowdown of a made-up run is found, and applied to the right device type."""

import json
import math
import random

import pytest

from hetsim.costs import CANARY, CostTable, LayerCost
from hetsim.costs.residuals import FILE, Residual, add_residuals, corrected, corrections, read_residuals, residuals_of_run
from hetsim.errors import CostError, RunDirectoryError

TYPES = {"fast0": "fast", "fast1": "fast", "slow0": "slow"}


def document(slower, used=None, cases=12):
    """The result of a validation in which each device type computes so many times slower than predicted, give or take 1 %."""
    chance = random.Random(0)
    rows = [
        {
            "network": "net",
            "plan": f"plan {i}",
            "phases": [
                {
                    "device": d,
                    "phase": p,
                    "predicted_s": s,
                    "measured_s": s * slower[TYPES[d]] * math.exp(chance.gauss(0, 0.01)),
                }
                for d in TYPES
                for p, s in (("forward", 0.1), ("backward", 0.2), ("waiting", 0.5))
            ],
        }
        for i in range(cases)
    ]
    return {"cases": rows, **({"corrections": used} if used else {})}


def test_the_slowdown_of_each_type_is_found():
    found = corrections(residuals_of_run("run", document({"fast": 1.08, "slow": 0.97}), TYPES))
    assert found["fast"].factor == pytest.approx(1.08, rel=0.01)
    assert found["slow"].factor == pytest.approx(0.97, rel=0.01)
    assert 0.002 < found["fast"].spread < 0.04
    assert found["fast"].cases == 12


def test_what_was_corrected_already_is_not_corrected_twice():
    """A run on corrected costs that finds nothing left says that the correction was right."""
    found = corrections(residuals_of_run("run", document({"fast": 1.0, "slow": 1.0}, used={"fast": 1.08}), TYPES))
    assert found["fast"].factor == pytest.approx(1.08, rel=0.01)
    assert found["slow"].factor == pytest.approx(1.0, rel=0.01)


def test_a_table_is_corrected_in_times_and_spreads_alone():
    rows = [
        LayerCost(kind, name, 4, 0.1, 0.2, spread=0.03, saved_bytes=8) for kind in ("fast", "slow") for name in ("a", CANARY)
    ]
    found = corrections([Residual("r", "n", f"p{i}", "fast", ratio) for i, ratio in enumerate((1.0, 1.1, 1.2))])
    fast, canary, slow, _ = corrected(CostTable("net", tuple(rows)), found).layers
    assert (fast.forward_s, fast.backward_s) == pytest.approx((0.11, 0.22))
    assert fast.spread == pytest.approx(math.hypot(0.03, found["fast"].spread))
    assert fast.saved_bytes == 8
    assert (canary, slow) == (rows[1], rows[2]), "the canary is what it is, and nothing was said of the slow ones"


def test_two_cases_say_nothing():
    assert corrections([Residual("r", "n", "p", "fast", 1.5)] * 2) == {}


def test_a_run_told_again_replaces_what_it_said(tmp_path):
    first = [Residual("one", "net", "p", "fast", 1.5), Residual("two", "net", "p", "fast", 1.1)]
    add_residuals(tmp_path, first)
    kept = add_residuals(tmp_path, [Residual("one", "net", "p", "fast", 1.2)])
    assert [(row.run, row.ratio) for row in kept] == [("two", 1.1), ("one", 1.2)]
    assert read_residuals(tmp_path) == kept


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", json.dumps({"format": "hetsim residuals", "schema_version": 1, "residuals": [{}]})]
)
def test_a_damaged_file_is_told(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CostError, match="is no file of residuals that can be read"):
        read_residuals(tmp_path)


@pytest.mark.parametrize("wrong", [{}, {"cases": [{"network": "n", "plan": "p", "phases": [{"device": "other"}]}]}])
def test_what_is_no_validation_of_this_cluster_is_refused(wrong):
    with pytest.raises(RunDirectoryError, match="is not that of a validation of this cluster"):
        residuals_of_run("run", wrong, TYPES)
