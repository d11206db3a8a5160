"""Drafts near a draft: each is one that devices are there for, none is the draft itself, and trying them makes nothing worse."""

from planner_cases import recurrence, simple_costs

from hetsim.hardware import Link
from hetsim.planner import Effort, search
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import KnownCut
from hetsim.planner.neighbours import neighbours
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.teams import Team
from hetsim.scenario.types import Search
from hetsim.workload import Training

UNLIKE = {"a": [0.01, 0.03, 0.02, 0.01, 0.02, 0.04], "b": [0.02, 0.02, 0.05, 0.03, 0.02, 0.03]}


def problem_of(devices, link=None):
    costs = simple_costs(UNLIKE, devices, parameters=(50_000,), link=link or Link("bus", 0.0, 1e7))
    return HybridProblem(costs, Training(24), (1, 2, 4), (1, 2)), costs


def look_of(draft):
    return tuple((team.known and (team.known.cut, team.known.grid.microbatch), team.kind, team.number) for team in draft)


def test_they_differ_in_one_team():
    problem, _ = problem_of(["a", "a", "b", "b", "b"])
    row = problem.shapes.index((1, 1))
    known = KnownCut(row, problem.tables[1].grid, Cut((0, 1), (0, 3, 6)), 12)
    draft = (Team(known, -1, 2), Team(None, 1, 1))
    found = list(neighbours(problem, draft, []))
    looks = [look_of(near) for near in found]
    assert len(looks) == len(set(looks))
    assert look_of(draft) not in looks
    assert look_of((Team(known, -1, 2),)) in looks, "the single device may be left out"
    cuts = {team.known.cut for near in found for team in near if team.known is not None}
    assert cuts == {
        Cut((0, 1), (0, 3, 6)),
        *(Cut((0, 1), (0, middle, 6)) for middle in (1, 2, 4, 5)),
        Cut((1, 0), (0, 3, 6)),
    }
    sizes = {team.known.grid.microbatch for near in found for team in near if team.known is not None}
    assert sizes == {1, 2, 4}
    for near in found:
        used = sum(
            team.number * (problem.usage[row] if team.known else problem.usage[len(problem.shapes) + team.kind])
            for team in near
        )
        assert (used <= problem.available).all()


def test_idle_devices_get_a_replica_that_is_cut_at_the_same_layers_or_one_that_is_known():
    problem, _ = problem_of(["a", "a", "b", "b", "b", "b", "b"])
    pair, alone = (
        KnownCut(problem.shapes.index(shape), problem.tables[1].grid, cut, 12)
        for shape, cut in (((1, 1), Cut((0, 1), (0, 3, 6))), ((0, 3), Cut((1, 1, 1), (0, 2, 4, 6))))
    )
    draft = (Team(pair, -1, 2), Team(None, 1, 1))
    looks = [look_of(near) for near in neighbours(problem, draft, [alone])]
    of_b = Cut((1, 1), (0, 3, 6))
    assert look_of((*draft, Team(KnownCut(problem.shapes.index((0, 2)), pair.grid, of_b, 12), -1, 1))) in looks
    assert look_of((Team(pair, -1, 2), Team(alone, -1, 1))) in looks, "in place of the single device"
    assert look_of((Team(pair, -1, 1), Team(None, 1, 1), Team(alone, -1, 1))) in looks, "in place of a pair"
    assert look_of((*draft, Team(alone, -1, 1))) not in looks, "there are two devices left, not three"
    assert look_of(draft) not in looks


def test_trying_them_makes_nothing_worse():
    space = Search(strategies=("hybrid",), microbatches=(1, 2, 4), microbatch_samples=(1, 2, 4))
    for link in (Link("bus", 0.0, 1e6), Link("bus", 0.001, 1e8)):
        _, costs = problem_of(["a"] * 4 + ["b"] * 4, link)
        without, with_them = (
            search(costs, Training(24), space, recurrence(costs), effort=Effort(neighbours=number)).chosen.step_s
            for number in (0, 100)
        )
        assert with_them <= without
