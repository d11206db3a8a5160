"""Costs on a device type that nobody measured: against theory, and in a whole table."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs import CANARY, LOSS, STEP, CostTable, LayerCost, TransferCost
from hetsim.costs.transfer import SPREADS, blended_s, host_floor_s, transferred_s, transferred_types, with_transferred
from hetsim.hardware import DeviceType
from hetsim.hardware.catalogue import accelerator
from hetsim.hardware.rates import AchievedRates, achieved_rates
from hetsim.workload import Chain, Layer

SLOW = AchievedRates("slow", flops_per_s=4e12, bytes_per_s=200e9)
FAST = AchievedRates("fast", flops_per_s=16e12, bytes_per_s=600e9)

rate = st.floats(1e9, 1e15)
rates = st.builds(AchievedRates, st.just("one"), rate, rate, st.floats(0.5, 2))
seconds = st.floats(1e-6, 10)
operations = st.none() | st.floats(0, 1e15)


def test_pure_computing_scales_by_achieved_flops():
    moved = transferred_s(0.1, floor_s=0.0, flops=0.1 * SLOW.flops_per_s, source=SLOW, target=FAST)
    assert moved == pytest.approx(0.1 * 4 / 16)


def test_pure_memory_scales_by_bandwidth():
    assert transferred_s(0.1, floor_s=0.0, flops=0.0, source=SLOW, target=FAST) == pytest.approx(0.1 * 200 / 600)


def test_a_mixture_adds_the_times_of_its_parts():
    flops, moved_bytes = 3e11, 5e9

    def roofline_s(one):
        return flops / one.flops_per_s + moved_bytes / one.bytes_per_s

    moved = transferred_s(roofline_s(SLOW), floor_s=0.0, flops=flops, source=SLOW, target=FAST)
    assert moved == pytest.approx(roofline_s(FAST))


def test_the_floor_of_the_host_does_not_scale():
    assert transferred_s(0.02, floor_s=0.02, flops=0.0, source=SLOW, target=FAST) == 0.02
    above = transferred_s(0.05, floor_s=0.02, flops=0.0, source=SLOW, target=FAST)
    assert above == pytest.approx(0.02 + 0.03 / 3)


def test_a_device_whose_steps_take_longer_than_its_rates_say():
    slower = replace(FAST, step_factor=1.5)
    ordinary = transferred_s(0.1, floor_s=0.0, flops=1e11, source=SLOW, target=FAST)
    assert transferred_s(0.1, floor_s=0.0, flops=1e11, source=SLOW, target=slower) == pytest.approx(1.5 * ordinary)


@given(seconds, st.floats(0, 1), operations, rates)
def test_equal_specifications_give_equal_times(total, floor, flops, one):
    moved = transferred_s(total, floor_s=floor * total, flops=flops, source=one, target=replace(one, name="twin"))
    assert moved == pytest.approx(total)


@given(seconds, st.floats(0, 1), operations, rates, rates, st.floats(1, 100), st.floats(1, 100))
def test_a_better_specification_is_never_slower(total, floor, flops, source, target, more_flops, more_bytes):
    better = replace(target, flops_per_s=target.flops_per_s * more_flops, bytes_per_s=target.bytes_per_s * more_bytes)
    here, there = (
        transferred_s(total, floor_s=floor * total, flops=flops, source=source, target=one) for one in (target, better)
    )
    assert there <= here * (1 + 1e-9)
    assert there >= floor * total * (1 - 1e-9)


@given(seconds, rates, rates, rates)
def test_there_and_back_is_where_one_started_without_operations(total, a, b, c):
    """Of memory alone, the way does not matter."""
    over = transferred_s(
        transferred_s(total, floor_s=0, flops=0.0, source=a, target=b), floor_s=0, flops=0.0, source=b, target=c
    )
    assert over == pytest.approx(transferred_s(total, floor_s=0, flops=0.0, source=a, target=c), rel=1e-6)


@given(st.lists(st.tuples(seconds, rates), min_size=1, max_size=4), rates)
def test_what_several_foretell_lies_between_them(estimates, target):
    blend = blended_s(estimates, target)
    values = [value for value, _ in estimates]
    assert min(values) * (1 - 1e-9) <= blend <= max(values) * (1 + 1e-9)


def test_a_measured_device_of_the_very_specification_decides_alone():
    assert blended_s([(1.0, SLOW), (9.0, FAST)], replace(FAST, name="twin")) == pytest.approx(9.0, rel=1e-4)


@given(st.floats(1e-4, 1), st.floats(1e-6, 1), st.lists(st.integers(1, 500), min_size=3, max_size=9, unique=True))
def test_the_floor_of_a_line_is_where_it_meets_no_samples(floor, slope, sizes):
    found = host_floor_s((size, floor + slope * size) for size in sizes)
    assert found == pytest.approx(floor, rel=1e-3, abs=1e-6 * slope * max(sizes))


def test_two_points_or_a_bent_curve_have_no_floor_to_be_told():
    assert host_floor_s([(1, 1.0), (2, 1.1)]) == 0.0
    assert host_floor_s([(1, 1.0), (2, 3.0), (4, 9.0)]) == 0.0  # its line begins below zero


# --- whole tables ---------------------------------------------------------------------------------------------------

CHAIN = Chain("net", (Layer("matmul", (1000,), forward_flops_per_sample=1e10), Layer("relu", forward_flops_per_sample=0.0)))
K80 = DeviceType("old", catalogue="K80")
V100 = DeviceType("new", catalogue="V100 SXM2 16GB")
H200 = DeviceType("newest", catalogue="H200 SXM")
UNKNOWN = DeviceType("mystery")


def rows(kind, *, factor=1.0, spread=0.01):
    for microbatch in (1, 4, 16):
        yield LayerCost(
            kind, "matmul", microbatch, 2e-3 * microbatch * factor, 4e-3 * microbatch * factor, 1e-3, None, 64, spread, 9
        )
        yield LayerCost(
            kind, "relu", microbatch, 1e-3 * microbatch * factor, 1e-3 * microbatch * factor, 0.0, None, 8, spread, 9
        )
    yield LayerCost(kind, LOSS, 4, 1e-4, 1e-4)
    yield LayerCost(kind, STEP, 4, 0.0, 0.0, 5e-4)
    yield LayerCost(kind, CANARY, 1, 1e-3, 0.0)


TABLE = CostTable(
    "net",
    tuple(rows("new")),
    (TransferCost("post_send", ("new",), 1024, 1e-5), TransferCost("bucket", ("new",), 1024, 1e-4)),
)


def by_key(table, kind):
    return {(row.layer, row.microbatch): row for row in table.layers if row.device_type == kind}


def test_each_part_of_a_table_scales_as_what_it_is():
    result = with_transferred(TABLE, CHAIN, [K80, V100], "float32")
    old, new = by_key(result.table, "old"), by_key(result.table, "new")
    here, there = (achieved_rates(accelerator(one.catalogue), "float32") for one in (V100, K80))
    factor = there.step_factor / here.step_factor
    memory = factor * here.bytes_per_s / there.bytes_per_s
    assert old["relu", 4].forward_s == pytest.approx(new["relu", 4].forward_s * memory)
    assert old["matmul", 4].update_s == pytest.approx(1e-3 * memory)
    assert old[STEP, 4].update_s == pytest.approx(5e-4)
    assert old[LOSS, 4].forward_s == pytest.approx(1e-4 * memory)
    computing_s = 1e10 * 4 / here.flops_per_s
    expected = factor * (
        computing_s * here.flops_per_s / there.flops_per_s + (8e-3 - computing_s) * here.bytes_per_s / there.bytes_per_s
    )
    assert old["matmul", 4].forward_s == pytest.approx(expected)
    own = {row.operation: row.seconds for row in result.table.transfers if row.group == ("old",)}
    assert own == {"post_send": pytest.approx(1e-5), "bucket": pytest.approx(1e-4 * memory)}


def test_transferred_rows_say_so_and_how_sure_they_are():
    result = with_transferred(TABLE, CHAIN, [K80, V100], "float32")
    old = by_key(result.table, "old")
    assert {(row.provenance, row.samples) for row in old.values()} == {("transferred", 0)}
    assert old["relu", 4].spread == pytest.approx(math.hypot(0.01, SPREADS[True, False]))
    assert old[STEP, 4].spread == pytest.approx(SPREADS[True, True])
    assert (CANARY, 1) not in old, "a canary is of a moment of a device that was there"
    assert old["matmul", 4].saved_bytes == 64
    assert result.sources == {"old": ("new",)}
    assert transferred_types(result.table) == ["old"]
    assert result.table.layers[: len(TABLE.layers)] == TABLE.layers


def test_a_device_whose_training_nobody_published_is_less_sure():
    new, old = (with_transferred(TABLE, CHAIN, [one, V100], "float32").table.layers[-1] for one in (H200, K80))
    assert new.spread >= old.spread
    relu = by_key(with_transferred(TABLE, CHAIN, [H200, V100], "float32").table, "newest")["relu", 4]
    assert relu.spread == pytest.approx(math.hypot(0.01, SPREADS[False, False]))


@pytest.mark.parametrize(
    ("types", "kind"),
    [([UNKNOWN, V100], "float32"), ([K80, DeviceType("new")], "float32"), ([V100], "float32"), ([K80, V100], "bfloat16")],
    ids=["target unknown", "source unknown", "nothing lacks", "no such format"],
)
def test_without_both_specifications_the_table_stays_as_it_is(types, kind):
    result = with_transferred(TABLE, CHAIN, types, kind)
    assert result.table is TABLE
    assert result.sources == {}


def test_a_measured_device_is_never_overwritten_and_nothing_is_transferred_twice():
    both = replace(TABLE, layers=(*TABLE.layers, *rows("old", factor=7)))
    assert with_transferred(both, CHAIN, [K80, V100], "float32").table is both
    once = with_transferred(TABLE, CHAIN, [K80, V100], "float32").table
    again = with_transferred(once, CHAIN, [K80, V100, H200], "float32")
    assert again.sources == {"newest": ("new",)}


def test_a_chain_without_operations_takes_the_usual_share():
    blank = Chain("net", (Layer("matmul"), Layer("relu")))
    old = by_key(with_transferred(TABLE, blank, [K80, V100], "float32").table, "old")
    new = by_key(TABLE, "new")
    ratios = {round(old[key].forward_s / new[key].forward_s, 9) for key in old if not key[0].startswith("@")}
    assert len(ratios) == 1, "layers of which nothing is known scale alike"
