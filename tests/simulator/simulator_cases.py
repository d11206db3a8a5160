"""Plans that consist of copies of a few replicas, with the clusters they are on."""

from itertools import pairwise

from hypothesis import strategies as st

from hetsim.costs import CostModel, CostTable, LayerCost, TransferCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.workload import Chain, Layer

LAYERS = 4
KINDS = ("old", "new")


class Hosts:
    """Nodes that are filled with devices as these are asked for."""

    def __init__(self, width, cores):
        self.width, self.cores = width, cores
        self.nodes = {kind: [] for kind in KINDS}

    def group(self, kind, count):
        """`count` devices of one node, as a plan writes them."""
        rows = self.nodes[kind]
        if not rows or len(rows[-1]) + count > max(self.width, count):
            rows.append([])
        node = f"{kind}{len(rows)}"
        for place in range(len(rows[-1]), len(rows[-1]) + count):
            rows[-1].append(Device(f"{node}.{place}", kind, node, place, self.cores[place % len(self.cores)]))
        return "+".join(device.name for device in rows[-1][-count:])


@st.composite
def repeated(draw):
    """A plan with its costs, of two device types that differ or do not; devices may share cores, and all share wires."""
    milliseconds = st.integers(0, 9).map(lambda ms: ms / 1000)
    network = Link("net", draw(milliseconds), draw(st.sampled_from([1e6, 1e7, 1e9])), draw(st.booleans()))
    parameters = tuple(draw(st.lists(st.integers(1, 400_000), max_size=2)))
    chain = Chain("net", tuple(Layer(f"l{i}", parameters, draw(st.integers(0, 10**4))) for i in range(LAYERS)))
    times = {kind: [[draw(milliseconds) for _ in range(4)] for _ in chain.layers] for kind in KINDS}
    if draw(st.booleans()):
        times["new"] = times["old"]  # they differ in what they take beside the layers
    rows = [
        LayerCost(kind, layer.name, 1, *mine, tensor_parallel=width)
        for kind in KINDS
        for layer, mine in zip(chain.layers, times[kind], strict=True)
        for width in (1, 2)
    ]
    posts = [
        TransferCost(operation, (kind,), 10**4, draw(milliseconds))
        for kind in KINDS
        for operation in ("post_send", "post_receive", "bucket", "beside_send", "beside_reduce")
    ]
    hosts = Hosts(draw(st.integers(1, 3)), draw(st.sampled_from([[()], [()], [(0,)], [(0, 1), (1,)]])))
    schedule = draw(st.sampled_from(["gpipe", "1f1b", "interleaved"]))
    rounds = 2 if schedule == "interleaved" else 1
    replicas = []
    for _ in range(draw(st.integers(1, 3))):
        depth = 2 if rounds == 2 else draw(st.integers(1, 3))
        cuts = [0, *sorted(draw(st.permutations(range(1, LAYERS)))[: rounds * depth - 1]), LAYERS]
        kinds = [(draw(st.sampled_from(KINDS)), draw(st.sampled_from([1, 1, 1, 2]))) for _ in range(depth)]
        microbatches, size = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        for _ in range(draw(st.integers(1, 4))):
            groups = [hosts.group(kind, count) for kind, count in kinds] * rounds
            stages = [f"{group}[{start}:{stop}]" for group, (start, stop) in zip(groups, pairwise(cuts), strict=True)]
            replicas.append(f"{' > '.join(stages)} {microbatches * size}/{microbatches}")
    bus = Link("bus", draw(milliseconds), draw(st.sampled_from([1e7, 1e9])))
    nodes = tuple(Node(devices[0].node, tuple(devices), bus) for row in hosts.nodes.values() for devices in row)
    cluster = Cluster(nodes, {kind: DeviceType(kind) for kind in KINDS}, network)
    how = draw(st.sampled_from(["ring", "tree", "hierarchical", f"ps@{nodes[0].name}", "whole ring"]))
    text = " | ".join(draw(st.permutations(replicas)) if draw(st.booleans()) else replicas)
    plan = Plan.parse(f"{text}; {schedule}; {how}")
    return plan, CostModel(chain, cluster, CostTable("net", tuple(rows), tuple(posts)))


def uniform(bandwidth=1e9):
    """Costs on 16 nodes of four devices, old and new in turn, and the texts of 32 equal replicas from an old node to a new one."""
    link = Link("net", 1e-5, bandwidth)
    nodes = tuple(
        Node(f"n{n}", tuple(Device(f"n{n}.{i}", KINDS[n % 2], f"n{n}") for i in range(4)), link) for n in range(16)
    )
    chain = Chain("net", tuple(Layer(f"l{i}", (1000,), 100) for i in range(LAYERS)))
    rows = tuple(LayerCost(kind, layer.name, 1, 0.1, 0.2) for kind in KINDS for layer in chain.layers)
    costs = CostModel(chain, Cluster(nodes, dict.fromkeys(KINDS, DeviceType("")), link), CostTable("net", rows))
    return costs, [f"n{2 * n}.{i}[0:2] > n{2 * n + 1}.{i}[2:4] 8/4" for n in range(8) for i in range(4)]
