"""Plans chosen by money, energy and within limits: against every plan on every set of devices, and against the baselines."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import problems, recurrence, simple_costs

from benchmarks.planner_cases import cases
from hetsim.costs import CostModel
from hetsim.economics import Economics, Power, Price
from hetsim.errors import InfeasibleError, InputError
from hetsim.hardware import Link
from hetsim.memory import memory_use
from hetsim.objective import FIGURES, Objective
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner import Effort, Tariff, Watch, search
from hetsim.planner.result import figure_of
from hetsim.scenario.types import Search
from hetsim.simulator import busy_s, least_step_s, shared_step_s
from hetsim.workload import Training

COUNTS = (1, 2, 4)
SPACE = Search(microbatches=COUNTS, microbatch_samples=(1, 2))
HOUR = 3600.0


def tariff_of(costs, training, economics):
    return Tariff(costs.cluster, economics, training.global_batch, lambda plan: busy_s(plan, costs))


@st.composite
def priced(draw, **limits):
    """A problem with prices and powers: (costs, training, tariff). What a host takes may be nothing, or a lot."""
    costs, training = draw(problems(**limits))
    money, watts = st.sampled_from([0.0, 1.0, 3.0, 10.0]), st.sampled_from([0.0, 10.0, 100.0, 300.0])
    types = {
        name: replace(kind, price=Price(per_h=draw(money)), power=Power(draw(watts), draw(watts)))
        for name, kind in costs.cluster.device_types.items()
    }
    told = draw(st.booleans())
    nodes = tuple(
        replace(node, price=Price(per_h=draw(money)), power_w=draw(watts)) if told else node for node in costs.cluster.nodes
    )
    economics = Economics("EUR", draw(st.sampled_from([0.0, 0.2, 2.0])), draw(st.sampled_from([1.0, 1.5])))
    costs = CostModel(costs.chain, replace(costs.cluster, nodes=nodes, device_types=types), costs.table)
    return costs, training, tariff_of(costs, training, economics)


def every_plan(costs, training):
    """Every plan of the searched families that fits: any devices as replicas of any stages, any shares of the batch."""
    names, layers, batch = [device.name for device in costs.cluster.devices], len(costs.chain), training.global_batch
    for order in (order for used in range(1, len(names) + 1) for order in permutations(names, used)):
        for breaks in (c for n in range(len(order)) for c in combinations(range(1, len(order)), n)):
            rows = [order[a:b] for a, b in pairwise((0, *breaks, len(order)))]
            if rows != sorted(rows) or max(map(len, rows)) > layers or len(rows) > batch:
                continue
            for cuts in product(*[[(0, *c, layers) for c in combinations(range(1, layers), len(row) - 1)] for row in rows]):
                stages = [
                    tuple(Stage(name, a, b) for name, (a, b) in zip(row, pairwise(cut), strict=True))
                    for row, cut in zip(rows, cuts, strict=True)
                ]
                yield from (plan for plan in shared(stages, batch) if fits(plan, costs, training))


def shared(stages, batch):
    alone = len(stages) == 1
    for shares in product(range(1, batch + 1), repeat=len(stages)):
        if sum(shares) != batch:
            continue
        counts = [
            [
                count
                for count in range(1, share + 1)
                if share % count == 0
                and (count in COUNTS if alone or len(row) == 1 else count > 1 and share // count in (1, 2))
            ]
            for row, share in zip(stages, shares, strict=True)
        ]
        for chosen in product(*counts):
            replicas = tuple(Replica(*row) for row in zip(stages, shares, chosen, strict=True))
            yield from (Plan(replicas, schedule) for schedule in ("gpipe", "1f1b"))


def fits(plan, costs, training):
    return all(use.fits for use in memory_use(plan, costs, training))


def figures(plan, evaluate, tariff):
    step_s = evaluate(plan)
    bill = tariff.bill(plan, step_s)
    return {figure: figure_of(figure, step_s, bill) for figure in FIGURES}


@given(priced(most_devices=3, most_layers=3, most_batch=4), st.sampled_from(FIGURES), st.data())
@settings(max_examples=60, deadline=None)
def test_against_every_plan_on_every_set_of_devices(case, least, data):
    """The bound is under all that keep the limits, and the choice is among them and as near to the best as is said."""
    costs, training, tariff = case
    evaluate = recurrence(costs)
    every = [figures(plan, evaluate, tariff) for plan in every_plan(costs, training)]
    limited = data.draw(st.sampled_from([None, *FIGURES])) if every else None
    objective = Objective(least)
    if limited is not None:
        values = sorted(row[limited] for row in every)
        limit = data.draw(st.sampled_from([values[0], values[len(values) // 10], values[len(values) // 2]])) * 1.01
        names = {"time": "step_s", "money": "money_per_million", "energy": "kwh_per_million"}
        if limit > 0:
            objective = replace(objective, **{names[limited]: limit})
    within = [row[least] for row in every if all(row[figure] <= limit for figure, limit in objective.limits.items())]
    try:
        result = search(costs, training, replace(SPACE, objective=objective), evaluate, tariff=tariff)
    except InfeasibleError:
        if limited is None:
            assert not every
        return
    best = min(within)
    value = result.chosen.figure(least)
    assert result.chosen.excess(objective) == 0
    assert result.lower_bound <= best * (1 + 1e-9) + 1e-12
    assert value >= best * (1 - 1e-9) - 1e-12
    assert all(value <= row.figure(least) for row in result.baselines if row.excess(objective) <= 0)
    if result.gap is not None:
        assert value <= best * (1 + result.gap) * (1 + 1e-9)


@given(priced(most_devices=3, most_layers=3, most_batch=4, limited=False, nodes=False))
@settings(max_examples=40, deadline=None)
def test_least_rent_is_that_of_all_plans(case):
    """Where only rent is paid, a set of devices costs least with its shortest step, so that the search of sets is exact."""
    costs, training, tariff = case
    tariff = tariff_of(costs, training, replace(tariff.economics, electricity_per_kwh=0.0))
    evaluate, gap = recurrence(costs), Effort().gap
    result = search(costs, training, replace(SPACE, objective=Objective("money")), evaluate, tariff=tariff)
    best = min(figures(plan, evaluate, tariff)["money"] for plan in every_plan(costs, training))
    assert result.chosen.figure("money") <= best * (1 + gap) * (1 + 2e-2) + 1e-9


def rented(**options):
    """A fast type at ten times the rent of a slow one that is a fifth as fast; sending costs nothing."""
    costs = simple_costs({"fast": [0.001] * 2, "slow": [0.005] * 2}, ["fast", "slow", "slow", "slow", "slow"], **options)
    types = costs.cluster.device_types
    prices = {"fast": Price(per_h=10.0), "slow": Price(per_h=1.0)}
    types = {name: replace(kind, price=prices[name], power=Power(100.0, 10.0)) for name, kind in types.items()}
    return CostModel(costs.chain, replace(costs.cluster, device_types=types), costs.table)


def answer(costs, objective, training, economics=None, space=SPACE):
    tariff = tariff_of(costs, training, economics or Economics(electricity_per_kwh=0.0))
    return search(costs, training, replace(space, objective=objective), recurrence(costs), tariff=tariff)


def test_the_cheap_and_slow_are_taken_where_time_does_not_matter():
    result = answer(rented(), Objective("money"), Training(20))
    assert {name[:4] for name in result.chosen.plan.devices} == {"slow"}
    # A sample takes 10 ms of a slow device at 1 an hour.
    assert result.chosen.figure("money") == pytest.approx(1e6 * 0.010 / HOUR)
    assert result.gap == pytest.approx(0, abs=0.011)
    assert result.explanation[0].endswith("nothing beats the baseline slow alone.")


def test_a_limit_of_time_makes_the_dear_ones_worth_their_rent():
    """Four slow ones do 20 samples in 50 ms; with the fast one, which does two samples for their one, 9 suffice for 11."""
    bold = answer(rented(), Objective("money", step_s=0.045), Training(20))
    assert "fast0" in bold.chosen.plan.devices
    assert bold.chosen.step_s <= 0.045
    assert bold.chosen.figure("money") > 1e6 * 0.010 / HOUR
    assert bold.gap < 0.2


def test_the_shortest_step_for_so_much_money():
    dear = answer(rented(), Objective("time"), Training(20))
    limit = 1e6 * 0.012 / HOUR
    cheap = answer(rented(), Objective("time", money_per_million=limit), Training(20))
    assert cheap.chosen.figure("money") <= limit
    assert cheap.chosen.step_s == pytest.approx(0.050)
    assert dear.chosen.step_s < cheap.chosen.step_s
    assert cheap.lower_bound_s <= dear.chosen.step_s


def test_a_host_is_paid_with_the_first_of_its_devices():
    """Two devices in a host of twice their rent: a sample costs 1 + 2 / 2 with both, and 1 + 2 with one."""
    costs = simple_costs({"a": [0.001]}, ["a", "a"])
    types = {"a": replace(costs.cluster.device_types["a"], price=Price(per_h=1.0))}
    nodes = tuple(replace(node, price=Price(per_h=2.0), power_w=0.0) for node in costs.cluster.nodes)
    costs = CostModel(costs.chain, replace(costs.cluster, device_types=types, nodes=nodes), costs.table)
    result = answer(costs, Objective("money"), Training(10))
    assert len(result.chosen.plan.devices) == 2
    assert result.chosen.figure("money") == pytest.approx(1e6 * 0.001 * 2 / HOUR)


def test_energy_prefers_the_frugal_one():
    costs = rented()
    types = {
        "fast": replace(costs.cluster.device_types["fast"], power=Power(1000.0, 0.0)),
        "slow": replace(costs.cluster.device_types["slow"], power=Power(100.0, 0.0)),
    }
    costs = CostModel(costs.chain, replace(costs.cluster, device_types=types), costs.table)
    result = answer(costs, Objective("energy"), Training(20), Economics(pue=1.5))
    assert {name[:4] for name in result.chosen.plan.devices} == {"slow"}
    assert result.chosen.figure("energy") == pytest.approx(1.5 * 1e6 * 0.010 * 100 / 3.6e6)


def test_limits_that_exclude_each_other_are_an_error_with_the_nearest_plan():
    with pytest.raises(InfeasibleError) as caught:
        answer(rented(), Objective("time", step_s=0.045, money_per_million=1e6 * 0.0101 / HOUR), Training(20))
    (problem,) = caught.value.problems
    assert problem.what.startswith("no plan can keep to 45.0 ms a step and 2.806 USD per million samples; the nearest")
    assert problem.help.startswith("Raise ")


@pytest.mark.parametrize(
    ("objective", "where", "what"),
    [
        (Objective(step_s=0.001), "limit step", "the limit is 1.00 ms a step, and no plan is under 24.0 ms a step"),
        (
            Objective("money", money_per_million=1.0),
            "limit money_per_million",
            "the limit is 1.000 USD per million samples, and no",
        ),
    ],
)
def test_a_limit_below_the_bound_is_told_with_the_bound(objective, where, what):
    with pytest.raises(InfeasibleError) as caught:
        answer(rented(), objective, Training(20))
    assert caught.value.exit_code == 3
    first, second = caught.value.problems
    assert first.where == where
    assert first.what.startswith(what)
    assert second.what.startswith("no plan can keep to")


def test_what_nobody_told_is_never_taken_for_nothing():
    costs = simple_costs({"a": [0.001]}, ["a", "a"])
    with pytest.raises(InputError) as caught:
        answer(costs, Objective("money"), Training(10), Economics())
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("economics", "the price of electricity is unknown"),
        ("device type a", "its price is unknown"),
        ("device type a", "its power is unknown while it is busy and while it is idle"),
    ]
    with pytest.raises(InputError, match="nothing is said of prices"):
        search(costs, Training(10), replace(SPACE, objective=Objective("energy")), recurrence(costs))


@pytest.mark.parametrize("least", ["money", "energy"])
def test_sixteen_unlike_devices(least):
    """A generated cluster: no baseline is better, the bound is told, and the answer is the same each time."""
    problem = next(
        problem for problem in cases(16) if "gpt 24x1024, A100 and V100" in problem.name or "A100" in problem.name
    )
    costs = problem.costs
    types = {
        name: replace(kind, price=Price(per_h=1.0 + rank), power=Power(200.0 + 100 * rank, 40.0))
        for rank, (name, kind) in enumerate(costs.cluster.device_types.items())
    }
    costs = CostModel(costs.chain, replace(costs.cluster, device_types=types), costs.table)

    def once():
        return search(
            costs,
            problem.training,
            Search(objective=Objective(least)),
            lambda plan: least_step_s(plan, costs),
            settle=lambda plan: shared_step_s(plan, costs),
            tariff=tariff_of(costs, problem.training, Economics(electricity_per_kwh=0.2)),
            effort=Effort(pipelines=20, replicas=40, sets=12),
        )

    result = once()
    value = result.chosen.figure(least)
    assert all(value <= row.figure(least) for row in (*result.baselines, *result.corners))
    assert 0 < result.lower_bound <= value
    assert once() == result


def test_who_interrupts_the_search_of_sets_gets_the_best_so_far():
    costs, training = rented(link=Link("bus", 1e-4, 1e9), parameters=(1000,)), Training(20)

    def enough(what, best_s, bound_s):
        if what.startswith("sets of devices"):
            raise KeyboardInterrupt

    tariff = tariff_of(costs, training, Economics(electricity_per_kwh=0.2))
    space = replace(SPACE, objective=Objective("money", step_s=0.045))
    result = search(costs, training, space, recurrence(costs), tariff=tariff, watch=Watch(report=enough))
    assert result.ended_early
    assert 0 <= result.lower_bound <= result.chosen.figure("money")
