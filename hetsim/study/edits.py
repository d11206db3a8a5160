"""Edits of a cluster, each one line of text::

    buy 2 V100 into old1             # a node that is there
    buy 4 A100 SXM 40GB into new gpu-box     # a node of its own, with the links of the first node
    retire old0-K80-1                # a device; or: retire 2 K80 from old1; or: retire node old1
    move new0-V100-0 to old1
    replace old0-K80-0 by V100
    link old1 25 Gbit/s              # of a node, or: network 100 Gbit/s
    cap V100 at 150 W, 1.2 x slower  # how much slower has to be said: it depends on the network
    price V100 4000

Every edit gives a new cluster and leaves the old one as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from hetsim.economics import Power, Price
from hetsim.errors import InputError, Problem
from hetsim.hardware import Cluster, Device, DeviceType, Node
from hetsim.hardware.catalogue import accelerator, suggestion
from hetsim.reading import did_you_mean
from hetsim.scenario.naming import DeviceNames
from hetsim.units import parse_bytes_per_s, parse_watts


@dataclass(frozen=True, slots=True)
class Variant:
    """A cluster after some edits."""

    name: str
    cluster: Cluster
    edits: tuple[str, ...] = ()
    bought: Mapping[str, int] = field(default_factory=dict)
    """Device type -> how many were bought."""

    slowed: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Device type that an edit made -> the one it was made from, and how many times slower it is."""

    @property
    def spent(self) -> float | None:
        """What was bought, in the scenario's currency; None where a price is unknown."""
        total = 0.0
        for kind, count in self.bought.items():
            price = self.cluster.device_types[kind].price
            if price is None or price.purchase is None:
                return None
            total += count * price.purchase
        return total

    @property
    def amortised_per_h(self) -> float:
        """The write-off of what was bought, an hour."""
        prices = ((self.cluster.device_types[kind].price, count) for kind, count in self.bought.items())
        return sum(count * (price.hourly or 0.0) for price, count in prices if price and price.purchase is not None)


def edited(cluster: Cluster, texts: Sequence[str], name: str = "") -> Variant:
    """`cluster` after the edits `texts`, in their order. Raises InputError that names the first edit that cannot be made."""
    variant = Variant(name or "; ".join(texts), cluster, tuple(texts))
    gone: dict[str, str] = {}
    """Name of a device or node -> the edit that took it out."""
    for text in texts:
        before = variant
        try:
            variant = _edit(variant, " ".join(text.split()))
        except (InputError, ValueError) as error:
            what, mend = (
                (error.problems[0].what, error.problems[0].help) if isinstance(error, InputError) else (str(error), "")
            )
            if missing := [word for word in re.findall(_NAME, text) if word in gone]:
                what, mend = f'"{missing[0]}" is not there any more: the edit "{gone[missing[0]]}" took it out', ""
            raise InputError(Problem(f'edit "{text}"', what, mend)) from None
        gone |= dict.fromkeys(_names(before.cluster) - _names(variant.cluster), text)
        gone = {name: edit for name, edit in gone.items() if name not in _names(variant.cluster)}
    if not variant.cluster.devices:
        raise InputError(Problem(f'edits "{"; ".join(texts)}"', "leave no device in the cluster"))
    return variant


def _names(cluster: Cluster) -> set[str]:
    return {device.name for device in cluster.devices} | {node.name for node in cluster.nodes}


def _edit(variant: Variant, text: str) -> Variant:
    for pattern, make in _FORMS.items():
        if match := re.fullmatch(pattern, text):
            return make(variant, **match.groupdict())
    raise InputError(Problem("", "is no edit", _FORMS_TEXT))


def _buy(variant: Variant, count: str, kind: str, node: str, new: str | None) -> Variant:
    cluster, kind = variant.cluster, _canonical(variant.cluster, kind)
    types = dict(cluster.device_types)
    if kind not in types:
        types[kind] = _from_catalogue(kind)
    number = _count(count)
    if new:
        _check_new_node(cluster, node)
        cluster = replace(cluster, nodes=(*cluster.nodes, Node(node, (), replace(cluster.nodes[0].link, name=node))))
    place = _node(cluster, node)
    _check_no_wires(place)
    if not new and place.slots is not None and len(place.devices) + number > place.slots:
        free = place.slots - len(place.devices)
        raise InputError(
            Problem("", f"node {node} has {free} free slots of {place.slots}", "Retire a device first, or buy a node")
        )
    taken = {device.name for device in cluster.devices} | {known.name for known in cluster.nodes}
    devices = list(place.devices)
    names = DeviceNames()
    for _ in range(number):
        name = names.next(kind)
        while name in taken:
            name = names.next(kind)
        ordinals = {device.index for device in devices}
        index = next(i for i in range(len(devices) + 1) if i not in ordinals) if types[kind].backend == "cuda" else 0
        devices.append(Device(name, kind, node, index))
    bought = {**variant.bought, kind: variant.bought.get(kind, 0) + number}
    return replace(variant, cluster=_with(replace(cluster, device_types=types), node, devices), bought=bought)


def _retire(variant: Variant, device: str) -> Variant:
    cluster = variant.cluster
    known = [found.name for found in cluster.devices]
    if device not in known:
        raise InputError(Problem("", f'there is no device "{device}"', did_you_mean(device, known)))
    node = cluster.node_of(device)
    return replace(variant, cluster=_with(cluster, node.name, [d for d in node.devices if d.name != device]))


def _retire_some(variant: Variant, count: str, kind: str, node: str) -> Variant:
    place, kind, number = _node(variant.cluster, node), _canonical(variant.cluster, kind), _count(count)
    mine = [device.name for device in place.devices if device.type == kind]
    if len(mine) < number:
        raise InputError(Problem("", f"node {node} has {len(mine)} devices of type {kind}"))
    gone = set(mine[len(mine) - number :])
    return replace(variant, cluster=_with(variant.cluster, node, [d for d in place.devices if d.name not in gone]))


def _retire_node(variant: Variant, node: str) -> Variant:
    place = _node(variant.cluster, node)
    nodes = tuple(known for known in variant.cluster.nodes if known is not place)
    return replace(variant, cluster=replace(variant.cluster, nodes=nodes))


def _move(variant: Variant, device: str, node: str) -> Variant:
    target = _node(variant.cluster, node)
    _check_no_wires(target)
    if target.slots is not None and len(target.devices) >= target.slots:
        raise InputError(Problem("", f"node {node} has no free slot of {target.slots}"))
    moved = variant.cluster.device(device) if device in {d.name for d in variant.cluster.devices} else None
    left = _retire(variant, device)
    assert moved is not None, "who is not there cannot be retired either"
    target = _node(left.cluster, node) if any(n.name == node for n in left.cluster.nodes) else target
    return replace(left, cluster=_with(left.cluster, node, [*target.devices, replace(moved, node=node, cores=())]))


def _replace_device(variant: Variant, device: str, kind: str) -> Variant:
    node = variant.cluster.node_of(device) if device in {d.name for d in variant.cluster.devices} else None
    left = _retire(variant, device)
    assert node is not None, "who is not there cannot be retired either"
    if not any(known.name == node.name for known in left.cluster.nodes):
        left = replace(left, cluster=replace(left.cluster, nodes=(*left.cluster.nodes, replace(node, devices=()))))
    return _buy(left, "1", kind, node.name, None)


def _link(variant: Variant, node: str, bandwidth: str) -> Variant:
    place, bytes_per_s = _node(variant.cluster, node), _bandwidth(bandwidth)
    _check_no_wires(place)
    nodes = tuple(
        replace(n, link=replace(n.link, bandwidth_bytes_per_s=bytes_per_s)) if n is place else n
        for n in variant.cluster.nodes
    )
    return replace(variant, cluster=replace(variant.cluster, nodes=nodes))


def _network(variant: Variant, bandwidth: str) -> Variant:
    if variant.cluster.wires:
        raise InputError(Problem("", "the nodes hang together by wires, not by one network", _WIRES))
    network = replace(variant.cluster.network, bandwidth_bytes_per_s=_bandwidth(bandwidth))
    return replace(variant, cluster=replace(variant.cluster, network=network))


def _cap(variant: Variant, kind: str, watts: str, slower: str) -> Variant:
    """Devices of a type of their own, whose costs are those of the old type times `slower`."""
    cluster, kind, factor = variant.cluster, _canonical(variant.cluster, kind), float(slower)
    if not 1 <= factor <= _MOST_SLOWER:
        raise InputError(Problem("", f"got {slower} x slower, expected 1 or more, and {_MOST_SLOWER} at most"))
    old, limit_w = _type(cluster, kind), parse_watts(watts)
    busy_w = old.power.busy_w if old.power else None
    if limit_w <= 0 or (busy_w is not None and limit_w > busy_w):
        most = "" if busy_w is None else f" and no more than the {busy_w:g} W that it takes now"
        raise InputError(Problem("", f"got a cap of {limit_w:g} W, expected more than 0 W{most}"))
    capped = f"{kind} at {limit_w:g} W"
    power = replace(old.power or Power(), busy_w=limit_w, assumed=False)
    types = {**cluster.device_types, capped: replace(old, name=capped, power=power)}
    nodes = tuple(
        replace(n, devices=tuple(replace(d, type=capped) if d.type == kind else d for d in n.devices)) for n in cluster.nodes
    )
    slowed = {**variant.slowed, capped: (kind, factor)}
    return replace(variant, cluster=replace(cluster, nodes=nodes, device_types=types), slowed=slowed)


def _price(variant: Variant, kind: str, money: str) -> Variant:
    kind = _canonical(variant.cluster, kind)
    old = _type(variant.cluster, kind)
    if float(money) > _DEAREST:
        raise InputError(Problem("", f"got a price of {float(money):g}, expected {_DEAREST:g} at most"))
    price = replace(old.price or Price(), purchase=float(money), per_h=None)
    types = {**variant.cluster.device_types, kind: replace(old, price=price)}
    return replace(variant, cluster=replace(variant.cluster, device_types=types))


_MOST_SLOWER = 1_000_000
_DEAREST = 1e15
_WIRES = "Write another scenario with its wires, and compare the two"
_NAME, _NUMBER = r"[\w.-]+", r"\d+(?:\.\d+)?"
_FORMS: Mapping[str, Callable[..., Variant]] = MappingProxyType(
    {
        rf"buy (?P<count>\d+) (?P<kind>.+?) into (?P<new>new )?(?P<node>{_NAME})": _buy,
        rf"retire node (?P<node>{_NAME})": _retire_node,
        rf"retire (?P<count>\d+) (?P<kind>.+?) from (?P<node>{_NAME})": _retire_some,
        r"retire (?P<device>\S+)": _retire,
        rf"move (?P<device>\S+) to (?P<node>{_NAME})": _move,
        r"replace (?P<device>\S+) by (?P<kind>.+)": _replace_device,
        rf"link (?P<node>{_NAME}) (?P<bandwidth>.+)": _link,
        r"network (?P<bandwidth>.+)": _network,
        rf"cap (?P<kind>.+?) at (?P<watts>.+?), (?P<slower>{_NUMBER}) x slower": _cap,
        rf"price (?P<kind>.+?) (?P<money>{_NUMBER})": _price,
    }
)
_FORMS_TEXT = (
    "Write: buy N TYPE into NODE; retire DEVICE; retire N TYPE from NODE; retire node NODE; move DEVICE to NODE; "
    "replace DEVICE by TYPE; link NODE BANDWIDTH; network BANDWIDTH; cap TYPE at POWER, FACTOR x slower; price TYPE MONEY"
)


def _with(cluster: Cluster, node: str, devices: Sequence[Device]) -> Cluster:
    """`cluster` with these devices in `node`; a node that is left empty goes."""
    nodes = [replace(n, devices=tuple(devices)) if n.name == node else n for n in cluster.nodes]
    return replace(cluster, nodes=tuple(n for n in nodes if n.devices))


def _check_new_node(cluster: Cluster, name: str) -> None:
    """Raise InputError where something is called so, or where wires would have to say how a new node hangs on."""
    if any(known.name == name for known in cluster.nodes):
        raise InputError(Problem("", f'there is a node "{name}" already'))
    if any(device.name == name for device in cluster.devices):
        raise InputError(Problem("", f'there is a device "{name}", and a node of that name could not be told from it'))
    if cluster.wires:
        raise InputError(Problem("", f'no wires would lead to a new node "{name}"', _WIRES))


def _check_no_wires(node: Node) -> None:
    """Raise InputError where what an edit would do to a node depends on wires, of which it says nothing."""
    if node.wires:
        raise InputError(Problem("", f"devices of node {node.name} hang together by wires, not by one kind of link", _WIRES))


def _bandwidth(text: str) -> float:
    """Bytes per second, 1 at least, as in a scenario."""
    bytes_per_s = parse_bytes_per_s(text)
    if bytes_per_s < 1:
        raise InputError(Problem("", f'got "{text}", expected a bandwidth of 1 byte per second or more'))
    return bytes_per_s


def _node(cluster: Cluster, name: str) -> Node:
    known = {node.name: node for node in cluster.nodes}
    if name not in known:
        raise InputError(
            Problem("", f'there is no node "{name}"', f"{did_you_mean(name, known)} For a new one: into new NAME")
        )
    return known[name]


def _type(cluster: Cluster, kind: str) -> DeviceType:
    if kind not in cluster.device_types:
        raise InputError(Problem("", f'there is no device type "{kind}"', did_you_mean(kind, cluster.device_types)))
    return cluster.device_types[kind]


def _canonical(cluster: Cluster, kind: str) -> str:
    """The name of a device type as the cluster, or else the catalogue, spells it."""
    folded = {name.casefold(): name for name in cluster.device_types}
    if kind.casefold() in folded:
        return folded[kind.casefold()]
    try:
        return accelerator(kind).name
    except InputError:
        return kind


def _from_catalogue(kind: str) -> DeviceType:
    """A type that the cluster does not know, as the catalogue has it; its price has to be told."""
    try:
        entry = accelerator(kind)
    except InputError:
        what = f'"{kind}" is neither a device type of the cluster nor in the catalogue of accelerators'
        raise InputError(Problem("", what, suggestion(kind))) from None
    power = None if entry.power_w is None else Power(entry.power_w, assumed=True)
    price = None if entry.purchase_usd is None else Price(entry.purchase_usd)
    return DeviceType(entry.name, memory_bytes=entry.memory_bytes, catalogue=entry.name, power=power, price=price)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise InputError(Problem("", f"got {number} devices, expected 1 to 10,000"))
    return number
