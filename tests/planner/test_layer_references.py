"""The layer split against a mixed-integer program (HiGHS), and against PipeDream's own recurrence on its published graphs."""

import csv
from collections import defaultdict
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import simple_costs
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.public_data import DATA_VARIABLE, data_folder
from hetsim.hardware import Link
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import kinds_of
from hetsim.planner.replica_split import NEAR, ReplicaSplit
from hetsim.planner.shortest_cut import best_cut
from hetsim.planner.stage_grid import StageGrid
from hetsim.workload import Training

FOLDER = data_folder() / "pipedream_dapple"
BYTES_PER_S = 1.25e9
"""10 Gbit/s, over which PipeDream planned."""


class Program:
    """A mixed-integer program for one pipeline: which layer lies in which place, and of which kind each place is.

    Nothing of it is hetsim's: layers are assigned one by one, places in order; of each layer it is known whether the chain is cut
    behind it. The objective is `weight` times the largest of stages and messages, plus `of_sum` times the sum of all of them.
    """

    def __init__(self, layer_s, messages_s, counts):
        self.layer_s, self.messages_s, self.counts = np.asarray(layer_s), np.asarray(messages_s), counts
        self.kinds, self.layers = self.layer_s.shape
        self.places = sum(counts)
        self.cells = self.layers * self.places * self.kinds
        self.size = self.cells + self.places * self.kinds + (self.layers - 1) + 1

    def cell(self, layer, place, kind):
        return (layer * self.places + place) * self.kinds + kind

    def chosen(self, place, kind):
        return self.cells + place * self.kinds + kind

    def cut(self, layer):
        return self.cells + self.places * self.kinds + layer

    def row(self, entries):
        found = np.zeros(self.size)
        for index, value in entries:
            found[index] += value
        return found

    def solve(self, weight, of_sum):
        rows, lows, highs = [], [], []

        def add(entries, low, high):
            rows.append(self.row(entries))
            lows.append(low)
            highs.append(high)

        places, kinds = range(self.places), range(self.kinds)
        every = [(place, kind) for place in places for kind in kinds]
        for layer in range(self.layers):
            add([(self.cell(layer, p, k), 1) for p, k in every], 1, 1)
            for p, k in every:
                add([(self.chosen(p, k), 1), (self.cell(layer, p, k), -1)], 0, np.inf)
        for place in places:
            add([(self.chosen(place, k), 1) for k in kinds], 1, 1)
            add([(self.cell(layer, place, k), 1) for layer in range(self.layers) for k in kinds], 1, np.inf)
        for kind in kinds:
            add([(self.chosen(p, kind), 1) for p in places], self.counts[kind], self.counts[kind])
        for layer in range(self.layers - 1):
            step = [(self.cell(layer + 1, p, k), p) for p, k in every] + [(self.cell(layer, p, k), -p) for p, k in every]
            add([*step, (self.cut(layer), -1)], 0, 0)
            add([(self.size - 1, 1), (self.cut(layer), -self.messages_s[layer])], 0, np.inf)
        for place in places:
            work = [(self.cell(layer, place, k), -self.layer_s[k, layer]) for layer in range(self.layers) for k in kinds]
            add([(self.size - 1, 1), *work], 0, np.inf)
        costs = np.zeros(self.size)
        costs[-1] = weight
        for layer in range(self.layers):
            for p, k in every:
                costs[self.cell(layer, p, k)] = of_sum * self.layer_s[k, layer]
        for layer in range(self.layers - 1):
            costs[self.cut(layer)] = of_sum * 2 * self.messages_s[layer]
        whole = np.ones(self.size)
        whole[-1] = 0
        upper = np.ones(self.size)
        upper[-1] = np.inf
        found = milp(
            costs,
            constraints=LinearConstraint(np.array(rows), lows, highs),
            integrality=whole,
            bounds=Bounds(0, upper),
            options={"mip_rel_gap": 0.0},
        )
        assert found.success, found.message
        return found.fun


def random_costs(seed, layers, counts):
    """A chain on equally connected devices: unlike layers, whose times differ between kinds by no single ratio."""
    random = np.random.default_rng(seed)
    times = {f"t{k}": list(random.uniform(0.001, 0.01, layers) * (1 + k)) for k in range(len(counts))}
    devices = [f"t{k}" for k, count in enumerate(counts) for _ in range(count)]
    return simple_costs(times, devices, link=Link("bus", 0.0, 1e5), output_bytes_per_sample=int(random.integers(20, 300)))


@pytest.mark.parametrize(
    ("seed", "layers", "counts"),
    [(0, 14, (2, 2)), (1, 16, (1, 1, 2)), (2, 12, (3, 2)), (3, 18, (4,)), (4, 20, (2, 1, 2)), (5, 24, (2, 2, 2))],
)
def test_the_split_equals_a_mixed_integer_program(seed, layers, counts):
    """Under GPipe the value is the sum plus M - 1 times the largest; and the largest alone is as small as it can be."""
    costs = random_costs(seed, layers, counts)
    microbatches = 8
    grid = StageGrid(costs, Training(microbatches), kinds_of(costs), 1, ExchangeFloor(costs))
    layer_s = [grid.layer_s(kind) for kind in range(len(counts))]
    program = Program(layer_s, grid.one_way_s.min(axis=(0, 1))[1:-1], counts)
    found = ReplicaSplit(grid, microbatches, schedule="gpipe").best(counts)
    expected = program.solve(weight=microbatches - 1, of_sum=1.0)
    assert found.low_s <= expected * (1 + 1e-6)
    assert found.high_s >= expected * (1 - 1e-6)
    assert found.high_s - found.low_s <= NEAR * found.high_s
    largest = best_cut(counts, [grid.period_s] * sum(counts), grid.one_way_s, "largest")
    assert largest.value == pytest.approx(program.solve(weight=1.0, of_sum=0.0), rel=1e-6)


times = st.one_of(st.just(np.inf), st.integers(0, 9).map(float))


@given(
    st.data(),
    st.sampled_from([(2,), (1, 1), (2, 1), (1, 1, 1), (2, 2)]),
    st.integers(1, 5),
    st.sampled_from(["sum", "largest"]),
)
@settings(max_examples=150, deadline=None)
def test_any_costs_by_place_and_kind_are_cut_as_listing_all_cuts_says(data, shape, layers, total):
    """Costs that neither add up nor grow, that depend on the place among the stages, with gaps: nothing is assumed of them."""
    depth, kinds = sum(shape), len(shape)
    draw = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(draw)
    stages = [
        np.where(
            random.random((kinds, layers, layers + 1)) < 0.2, np.inf, random.integers(0, 9, (kinds, layers, layers + 1))
        )
        for _ in range(depth)
    ]
    for table in stages:
        table[:, np.arange(layers)[:, None] >= np.arange(layers + 1)] = np.inf
    links = np.where(
        random.random((kinds, kinds, layers + 1)) < 0.1, np.inf, random.integers(0, 9, (kinds, kinds, layers + 1))
    )
    join = sum if total == "sum" else max
    least = np.inf
    for order in set(permutations([kind for kind, count in enumerate(shape) for _ in range(count)])):
        for inner in combinations(range(1, layers), depth - 1):
            cut = list(pairwise((0, *inner, layers)))
            parts = [stages[depth - 1 - n][kind, a, b] for n, (kind, (a, b)) in enumerate(zip(order, cut, strict=True))]
            parts += [links[a, b, at] for (a, b), at in zip(pairwise(order), inner, strict=True)]
            least = min(least, join(parts))
    found = best_cut(shape, stages, links, total)
    if np.isinf(least):
        assert found is None
        return
    order, cut = found.cut.kinds, list(pairwise(found.cut.cuts))
    parts = [stages[depth - 1 - n][kind, a, b] for n, (kind, (a, b)) in enumerate(zip(order, cut, strict=True))]
    parts += [links[a, b, at] for (a, b), at in zip(pairwise(order), found.cut.cuts[1:-1], strict=True)]
    assert found.value == least == join(parts)
    assert tuple(order.count(kind) for kind in range(kinds)) == shape


def published_graphs():
    """(name, seconds of each layer, bytes that cross the cut before each) of PipeDream's and DAPPLE's graphs."""
    nodes, edges = defaultdict(dict), defaultdict(list)
    with (FOLDER / "layers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            seconds = (float(row["forward_ms"]) + float(row["backward_ms"])) / 1e3
            reading = row["layer"].startswith("Input")  # what it takes is reading data
            nodes[row["source"], row["profile"]][row["node"]] = (0.0 if reading else seconds, float(row["activation_bytes"]))
    with (FOLDER / "edges.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            edges[row["source"], row["profile"]].append((row["from_node"], row["to_node"]))
    for name, members in nodes.items():
        order = topological(members, edges[name])
        place = {node: index for index, node in enumerate(order)}
        crossing = np.zeros(len(order) + 1)
        for node in order:
            last = max((place[b] for a, b in edges[name] if a == node), default=place[node])
            crossing[place[node] + 1 : last + 1] += members[node][1]
        yield "/".join(name), np.array([members[node][0] for node in order]), crossing


def topological(members, edges):
    before, after = dict.fromkeys(members, 0), defaultdict(list)
    for a, b in edges:
        before[b] += 1
        after[a].append(b)
    ready, order = [node for node in members if not before[node]], []
    while ready:
        node = ready.pop()
        order.append(node)
        for other in after[node]:
            before[other] -= 1
            if not before[other]:
                ready.append(other)
    return order


def pipedream_optimum(layer_s, messages_s, machines):
    """The bottleneck by the recurrence of Narayanan et al. 2019, section 3.1, where no stage is replicated: with A(j, m) the
    slowest stage or message of the best split of layers 1 to j over m machines, A(j, m) is the least over i of
    max(A(i, m - 1), 2 a(i) / B, T(i + 1, j))."""
    layers = len(layer_s)
    done = np.concatenate(([0.0], np.cumsum(layer_s)))
    best = done.copy()
    best[0] = np.inf
    for _ in range(machines - 1):
        longer = np.full(layers + 1, np.inf)
        for j in range(1, layers + 1):
            cuts = np.arange(1, j)
            longer[j] = np.maximum(np.maximum(best[cuts], messages_s[cuts]), done[j] - done[cuts]).min(initial=np.inf)
        best = longer
    return best[layers]


@pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the published graphs are not here; {DATA_VARIABLE} names the folder of published data"
)
@pytest.mark.parametrize("machines", [2, 4, 8])
def test_no_bottleneck_is_above_the_optimum_of_pipedream(machines):
    """Equal devices, PipeDream's costs: compute of a stage, and twice the activations over the bandwidth between two."""
    compared = 0
    for name, layer_s, crossing in published_graphs():
        layers = len(layer_s)
        if layers > 200:  # the reference takes their square in plain Python
            continue
        messages_s = 2 * crossing / BYTES_PER_S
        done = np.concatenate(([0.0], np.cumsum(layer_s)))
        ahead = np.triu(np.ones((layers, layers + 1), dtype=bool), 1)
        stages = np.where(ahead, done[None, :] - done[:-1, None], np.inf)[None]
        found = best_cut((machines,), [stages] * machines, messages_s[None, None], "largest")
        optimum = pipedream_optimum(layer_s, messages_s, machines)
        assert found.value <= optimum * (1 + 1e-12), name
        assert found.value == pytest.approx(optimum, rel=1e-12), name
        compared += 1
    assert compared >= 20
