"""Money and energy against sums by hand; what is unknown stays so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.economics import Bill, Economics, Power, Price, bill, pay_back_h

V100 = (Price(8760.0, 8760 * 3600.0), Power(300.0, 50.0))
ECONOMICS = Economics("USD", 0.2, 1.5)


def test_a_bill_by_hand():
    """Half the step at 300 W, half at 50 W, an idle one beside it, a host of 100 W; 1 an hour each, and 0.5 for the host."""
    found = bill(2.0, 100, {"a": 1.0}, {"a": V100, "b": V100}, [(Price(per_h=0.5), 100.0)], ECONOMICS)
    joules = (300 * 1 + 50 * 1 + 50 * 2 + 100 * 2) * 1.5
    assert found.energy_j == pytest.approx(joules)
    assert found.owning_per_h == pytest.approx(2.5)
    assert found.electricity_per_h == pytest.approx(joules / 2 * 3600 / 3.6e6 * 0.2)
    assert found.per_million == pytest.approx((2.5 + found.electricity_per_h) / 3600 / 50 * 1e6)
    assert found.kwh_per_million == pytest.approx(joules / 100 / 3.6)


@pytest.mark.parametrize(
    ("device", "node", "economics"),
    [
        ((None, V100[1]), (None, None), ECONOMICS),
        ((Price(100.0), V100[1]), (None, None), ECONOMICS),
        ((V100[0], None), (None, None), ECONOMICS),
        ((V100[0], Power(300.0)), (None, None), ECONOMICS),
        (V100, (Price(per_h=1.0), None), ECONOMICS),
        (V100, (None, None), Economics()),
    ],
    ids=["no price", "no life", "no power", "no idle power", "a host without power", "no price of electricity"],
)
def test_one_unknown_makes_the_money_unknown(device, node, economics):
    assert bill(2.0, 100, {"a": 1.0}, {"a": device}, [node], economics).per_million is None


def test_a_device_that_never_rests_needs_no_idle_power():
    found = bill(2.0, 100, {"a": 2.0}, {"a": (V100[0], Power(300.0))}, [], ECONOMICS)
    assert found.energy_j == pytest.approx(900.0)


def test_a_purchase_pays_back_when_it_has_saved_its_price():
    """Twice the samples an hour for 1 more: what cost 10 would have cost 20, and costs 11, of which 1 is the write-off."""
    before = Bill(2.0, 100, 0.0, 10.0, 0.0)
    after = Bill(1.0, 100, 0.0, 11.0, 0.0)
    assert pay_back_h(100.0, before, after, amortised_per_h=1.0) == pytest.approx(10.0)
    assert pay_back_h(100.0, before, Bill(2.0, 100, 0.0, 11.0, 0.0), amortised_per_h=1.0) == float("inf")
    assert pay_back_h(100.0, Bill(2.0, 100, None, None, None), after, 1.0) is None


@given(st.floats(0.01, 10), st.floats(0, 1), st.floats(1, 1000), st.floats(0, 1000), st.integers(1, 1000))
def test_energy_lies_between_that_of_rest_and_that_of_work(step_s, share, busy_w, idle_w, samples):
    low, high = sorted((busy_w, idle_w))
    devices = {"a": (None, Power(busy_w, idle_w))}
    found = bill(step_s, samples, {"a": step_s * share}, devices, [], Economics())
    assert low * step_s * (1 - 1e-9) <= found.energy_j <= high * step_s * (1 + 1e-9)
