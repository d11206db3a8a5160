"""Fair sharing: cases worked out by hand, the theorem that says what max-min fair is, and an independent fluid model."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.simulator.sharing import Clockwork, Sharing, Work, max_min

RESOURCES = ("u", "v", "w", "x", "y", "z")


def work(load, weight=1.0):
    return Work(0.0, load, weight, lambda: None, 1.0, 0, 0.0)


def finish_times(jobs):
    """End of each (start_ns, duration_ns, load, weight), by name."""
    env = Clockwork()
    sharing = Sharing(env)
    ends = {}

    def start(name, duration_ns, load, weight):
        sharing.start(duration_ns, load, weight, lambda: ends.setdefault(name, env.now))

    for name, (start_ns, *rest) in jobs.items():
        env.timeout(start_ns).callbacks.append(lambda _event, name=name, rest=rest: start(name, *rest))
    env.run()
    return ends


def test_one_alone_takes_its_duration():
    assert finish_times({"a": (5, 100, {"x": 1.0}, 1.0)}) == {"a": 105}


def test_two_on_one_lane_take_twice_as_long():
    assert finish_times({"a": (0, 100, {"x": 1.0}, 1.0), "b": (0, 100, {"x": 1.0}, 1.0)}) == {"a": 200, "b": 200}


def test_a_late_one_slows_the_rest_of_an_early_one():
    """a has 60 left when b comes; both go at half speed until a ends at 160, then b's last 40 go at full speed."""
    assert finish_times({"a": (0, 100, {"x": 1.0}, 1.0), "b": (40, 100, {"x": 1.0}, 1.0)}) == {"a": 160, "b": 200}


def test_what_one_cannot_use_the_others_get():
    """Of a resource of 10 bytes/s, one that can do no more than 2 leaves 4 to each of the other two (Bertsekas & Gallager)."""
    slow, quick, other = work({"x": 0.2}, 2.0), work({"x": 1.0}, 10.0), work({"x": 1.0}, 10.0)
    shares = max_min([slow, quick, other], ["x"])
    assert shares[slow] == 1.0
    assert shares[quick] == shares[other] == pytest.approx(0.4)


def test_the_long_path_gets_the_least_share():
    """The parking lot: one flow over x and y, one on x, two on y: 1/3 for the long one and those on y, 2/3 on x."""
    long, on_x, first, second = work({"x": 1.0, "y": 1.0}), work({"x": 1.0}), work({"y": 1.0}), work({"y": 1.0})
    shares = max_min([long, on_x, first, second], ["x", "y"])
    assert [shares[w] for w in (long, on_x, first, second)] == pytest.approx([1 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_bytes_are_shared_and_not_durations():
    """A resource of 10 bytes/s; one flow could take all of it, the other 5 on a slower resource of its own: 5 bytes/s each."""
    wide, narrow = work({"x": 1.0}, 10.0), work({"x": 0.5}, 5.0)
    shares = max_min([wide, narrow], ["x"])
    assert shares[narrow] == 1.0
    assert shares[wide] == pytest.approx(0.5)


loads = st.dictionaries(st.sampled_from(RESOURCES), st.floats(0.05, 1.0), min_size=1, max_size=3)
flows = st.lists(st.tuples(loads, st.floats(0.1, 10.0)), min_size=1, max_size=8)


@given(flows)
def test_every_flow_has_a_full_resource_on_which_nobody_gets_more(rows):
    """Which is what max-min fair means (Bertsekas & Gallager 1992, section 6.5.2), and no resource is above its capacity."""
    works = [work(load, weight) for load, weight in rows]
    shares = max_min(works, RESOURCES)
    used = {resource: sum(shares[w] * w.load.get(resource, 0.0) for w in works) for resource in RESOURCES}
    assert all(total <= 1 + 1e-6 for total in used.values())
    rate = {w: shares[w] * w.weight for w in works}
    for w in works:
        full = [resource for resource in w.load if used[resource] >= 1 - 1e-6]
        bottleneck = any(all(rate[o] <= rate[w] * (1 + 1e-6) for o in works if resource in o.load) for resource in full)
        assert shares[w] == 1.0 or bottleneck


jobs = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 1000), loads, st.just(1.0)), min_size=1, max_size=8)


@given(jobs)
@settings(deadline=None)
def test_equals_a_fluid_model_in_small_steps_of_events(rows):
    """Every piece of work is done, none faster than alone, at the moments that a plain fluid model in floats says."""
    named = dict(enumerate(rows))
    ends = finish_times(named)
    expected = fluid(named)
    assert ends.keys() == named.keys()
    for name, (start_ns, duration_ns, _, _) in named.items():
        assert ends[name] >= start_ns + duration_ns
        assert ends[name] == pytest.approx(expected[name], abs=2 * len(rows) + 1), "an end is rounded up to a nanosecond"


def fluid(jobs):
    """The same by a loop from event to event, with shares from bisection on the common rate, resource by resource."""
    left = {name: float(duration) for name, (_, duration, _, _) in jobs.items()}
    now, ends = 0.0, {}
    while left:
        active = [name for name in left if jobs[name][0] <= now]
        speed = shares_by_bisection({name: jobs[name][2] for name in active})
        comes = min((jobs[name][0] for name in left if jobs[name][0] > now), default=math.inf)
        ready = min((now + left[name] / speed[name] for name in active), default=math.inf)
        later = min(comes, ready)
        for name in active:
            left[name] -= (later - now) * speed[name]
            if left[name] <= 1e-9:
                ends[name] = later
                del left[name]
        now = later
    return ends


def shares_by_bisection(loads):
    """Max-min shares of flows of equal weight: raise the common rate of those that are free as far as it goes, by bisection."""
    fixed = {}
    while len(fixed) < len(loads):

        def fits(rate, fixed=fixed):
            shares = {name: fixed.get(name, min(1.0, rate)) for name in loads}
            return all(
                sum(shares[n] * load.get(resource, 0.0) for n, load in loads.items()) <= 1 + 1e-12 for resource in RESOURCES
            )

        low, high = 0.0, 1.0
        if fits(1.0):
            return {name: fixed.get(name, 1.0) for name in loads}
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        shares = {name: fixed.get(name, low) for name in loads}
        full = [
            resource
            for resource in RESOURCES
            if sum(shares[n] * load.get(resource, 0.0) for n, load in loads.items()) >= 1 - 1e-9
        ]
        fixed |= {
            name: low for name, load in loads.items() if name not in fixed and any(resource in full for resource in load)
        }
    return fixed
