"""Small clusters, chains and cost tables for the planner's tests, drawn or written down."""

from itertools import combinations, pairwise, permutations, product

from hypothesis import strategies as st

from hetsim.costs import LOSS, STEP, CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Stage
from hetsim.schedule import make_schedule
from hetsim.simulator import price, shared_step_s, solve
from hetsim.workload import Chain, Layer, Training


def recurrence(costs):
    """Seconds of a step of a plan, by the closed recurrence."""

    def evaluate(plan):
        schedule = make_schedule(plan, costs.chain)
        return solve(schedule, price(plan, costs)).step_ns / 1e9

    return evaluate


def shared(costs):
    """Seconds of a step of a plan, by the event model: where transfers share links."""
    return lambda plan: shared_step_s(plan, costs)


FREE_LINK = Link("bus", 0.0, 1e30)


def simple_costs(seconds_per_sample, devices, *, link=FREE_LINK, memory=None, **layer):
    """Proportional costs: `seconds_per_sample[type]` for each layer (one third of it forward); `devices`: their types."""
    memory = memory or {}
    types = {name: DeviceType(name, memory_bytes=memory.get(name)) for name in seconds_per_sample}
    seen = dict.fromkeys(types, -1)
    rows = []
    for kind in devices:
        seen[kind] += 1
        rows.append(Device(f"{kind}{seen[kind]}", kind, "host"))
    cluster = Cluster((Node("host", tuple(rows), link),), types, link)
    names = [f"l{i}" for i in range(len(next(iter(seconds_per_sample.values()))))]
    chain = Chain("net", tuple(Layer(name, **layer) for name in names))
    table = tuple(
        LayerCost(kind, name, 1, t / 3, t * 2 / 3)
        for kind, times in seconds_per_sample.items()
        for name, t in zip(names, times, strict=True)
    )
    return CostModel(chain, cluster, CostTable("net", table))


milliseconds = st.integers(0, 500).map(lambda ms: ms / 1000)


@st.composite
def problems(draw, *, most_devices=4, most_layers=4, most_batch=8, limited=True, nodes=True):
    """(costs, training): arbitrary costs, measured at every microbatch, of a few devices of up to three types."""
    batch = draw(st.integers(1, most_batch))
    kinds = [f"t{i}" for i in range(draw(st.integers(1, 3)))]
    memory = st.one_of(st.none(), st.integers(0, 4000)) if limited else st.none()
    types = {kind: DeviceType(kind, memory_bytes=draw(memory)) for kind in kinds}
    links = st.builds(Link, st.just("link"), milliseconds, st.sampled_from([2e4, 1e5, 1e30]))
    homes = draw(
        st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 2 if nodes else 0)), min_size=1, max_size=most_devices)
    )
    members = {number: [] for _, number in homes}
    for index, (kind, number) in enumerate(homes):
        members[number].append(Device(f"d{index}", kind, f"n{number}"))
    cluster = Cluster(tuple(Node(f"n{n}", tuple(rows), draw(links)) for n, rows in members.items()), types, draw(links))
    layers = draw(
        st.lists(
            st.builds(
                Layer,
                st.just(""),
                st.lists(st.integers(1, 100), max_size=2).map(tuple),
                st.integers(0, 100),
                st.integers(0, 200),
            ),
            min_size=1,
            max_size=most_layers,
        )
    )
    named = tuple(
        Layer(f"l{i}", x.parameters, x.output_bytes_per_sample, x.saved_bytes_per_sample) for i, x in enumerate(layers)
    )
    chain = Chain("net", named, draw(st.integers(0, 50)))
    rows = [LayerCost(kind, STEP, 1, 0.0, 0.0, draw(milliseconds)) for kind in kinds]
    for kind in kinds:
        for layer in [*(row.name for row in named), LOSS]:
            update_s, accumulate_s = draw(milliseconds), draw(st.one_of(st.none(), milliseconds))
            times = draw(st.lists(st.tuples(milliseconds, milliseconds), min_size=batch, max_size=batch))
            saved = draw(st.one_of(st.none(), st.integers(0, 300)))
            rows += [
                LayerCost(kind, layer, m, forward_s, backward_s, update_s, accumulate_s, saved and saved * m)
                for m, (forward_s, backward_s) in enumerate(times, start=1)
            ]
    training = Training(batch, draw(st.sampled_from(["sgd", "adamw"])))
    return CostModel(chain, cluster, CostTable("net", tuple(rows))), training


def arrangements(names, layers):
    """Every way to make replicas of some of `names`, cut anywhere: tuples of stages."""
    for used in range(1, len(names) + 1):
        for order in permutations(names, used):
            for breaks in (c for n in range(used) for c in combinations(range(1, used), n)):
                rows = [order[a:b] for a, b in pairwise((0, *breaks, used))]
                if sorted(rows) != rows or max(map(len, rows)) > layers:
                    continue
                cuts = [[(0, *c, layers) for c in combinations(range(1, layers), len(row) - 1)] for row in rows]
                for chosen in product(*cuts):
                    yield tuple(
                        tuple(Stage(name, a, b) for name, (a, b) in zip(row, pairwise(cut), strict=True))
                        for row, cut in zip(rows, chosen, strict=True)
                    )
