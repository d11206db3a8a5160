"""Shares that add up exactly, against every possibility."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.planner.share_sum import Group, Pieces, smallest_maximum

costs = st.one_of(st.just(np.inf), st.integers(0, 20).map(float))


@st.composite
def groups(draw):
    """(groups, total): arbitrary curves, some of them in pieces, for up to four devices."""
    total = draw(st.integers(1, 12))
    rows, devices = [], draw(st.integers(1, 4))
    while devices:
        size = draw(st.integers(1, devices))
        devices -= size
        counts = [1, *draw(st.lists(st.integers(2, 4), unique=True, max_size=2))]
        curves = [draw(st.lists(costs, min_size=total // c + 1, max_size=total // c + 1)) for c in counts]
        rows.append(Group(size, tuple(Pieces(c, np.array(curve)) for c, curve in zip(counts, curves, strict=True))))
    return rows, total


def cheapest(group, share):
    return min(o.cost[share // o.count] for o in group.options if share % o.count == 0)


@given(groups(), st.integers(0, 22))
@settings(max_examples=400, deadline=None)
def test_equals_brute_force(case, below):
    rows, total = case
    devices = [group for group in rows for _ in range(group.size)]
    largest = min(
        max(cheapest(group, share) for group, share in zip(devices, shares, strict=True))
        for shares in product(range(total + 1), repeat=len(devices))
        if sum(shares) == total
    )
    best = smallest_maximum(rows, total)
    if np.isinf(largest):
        assert best is None
        return
    assert best is not None
    shares = [share for group in best.shares for share in group]
    assert sum(shares) == total
    assert best.largest == largest == max(cheapest(g, s) for g, s in zip(devices, shares, strict=True))
    assert (smallest_maximum(rows, total, below) is None) == (largest >= below)


def test_a_million_samples_are_split_in_proportion_to_speed():
    """Costs rise with the share, so the largest is that of the whole batch at all speeds together, rounded up to a share."""
    total, sizes, each_s = 1_000_000, (100, 150, 50), (1.0, 2.0, 5.0)
    share = np.arange(total + 1)
    best = smallest_maximum([Group(n, (Pieces(1, s * share),)) for n, s in zip(sizes, each_s, strict=True)], total)
    assert best is not None
    speed = sum(n / s for n, s in zip(sizes, each_s, strict=True))
    assert total / speed <= best.largest <= total / speed + max(each_s)
    assert sum(map(sum, best.shares)) == total
    assert max(max(s * share for share in mine) for mine, s in zip(best.shares, each_s, strict=True)) == best.largest


def test_equal_devices_get_shares_as_equal_as_can_be():
    curve = np.full(101, 1.0)
    best = smallest_maximum([Group(3, (Pieces(1, curve),))], 100)
    assert best is not None
    assert sorted(best.shares[0]) == [33, 33, 34]
