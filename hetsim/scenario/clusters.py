"""The cluster of a scenario file: this machine's own, or one that is written out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hetsim.economics import Power, Price
from hetsim.errors import InputError, ScenarioError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node, Topology, Wire
from hetsim.hardware.catalogue import accelerator
from hetsim.reading import did_you_mean
from hetsim.scenario.document import Key
from hetsim.scenario.local import local_cluster
from hetsim.scenario.naming import DeviceNames
from hetsim.scenario.reader import Reader
from hetsim.scenario.schema import (
    ClusterSection,
    DevicesSection,
    DeviceTypeSection,
    LinkSection,
    LocalSection,
    NodeSection,
    PriceSection,
    WireSection,
)

_UNUSED = Link("unused", 0.0, 1e12)
"""Of a device that has nobody to talk to."""


def read_cluster(reader: Reader) -> Cluster | None:
    """The cluster; None where it is wrong."""
    entry = reader.document.at(("cluster",))
    if not (isinstance(entry, dict) and "local" in entry):
        return _written_out(reader)
    section = reader.section(LocalSection, "cluster")
    if section is None:
        return None
    try:
        return local_cluster(section.local)
    except ScenarioError as error:
        for problem in error.problems:
            reader.fault(("cluster", "local"), problem.what, problem.help)
        return None


def _written_out(reader: Reader) -> Cluster | None:
    section = reader.section(ClusterSection, "cluster")
    types = {name: _device_type(reader, name) for name in _entries(reader, "device_types", dict)}
    rows = [reader.section(NodeSection, "cluster", "nodes", i) for i, _ in enumerate(_entries(reader, "nodes", list))]
    _check_types(reader, list(types))
    _check_node_names(reader)
    _check_reach(reader, rows)
    _check_owning(reader, rows)
    known = {name: kind for name, kind in types.items() if kind is not None}
    names = DeviceNames()
    devices = [tuple(_devices(reader, i, row, known, names)) if row else () for i, row in enumerate(rows)]
    _check_not_devices(reader, [device.name for held in devices for device in held])
    network = _network(reader, section) if section else None
    links = [_node_link(reader, i, row, len(devices[i]), network) if row else None for i, row in enumerate(rows)]
    nodes = [
        Node(row.name, held, link, _wires(row.wires), row.address or "", row.ssh or "", row.netns or "", *_owning(row))
        for row, held, link in zip(rows, devices, links, strict=True)
        if row and link
    ]
    if section is None or len(known) < len(types) or len(nodes) < len(rows):
        return None
    cluster = Cluster(tuple(nodes), known, network or nodes[0].link, _wires(section.wires))
    _check_wires(reader, cluster)
    return cluster


def _entries(reader: Reader, key: str, kind: type[dict[str, Any] | list[Any]]) -> Any:
    """What stands under `cluster.key`; nothing where it is not of that kind, which the section has found then."""
    value = reader.document.at(("cluster", key))
    return value if isinstance(value, kind) else ()


def _device_type(reader: Reader, name: str) -> DeviceType | None:
    keys = ("cluster", "device_types", name)
    if reader.document.at(keys) is None:
        return DeviceType(name)
    section = reader.section(DeviceTypeSection, *keys)
    if section is None:
        return None
    fields = section.model_dump(exclude_none=True)
    if fields.get("backend") != "cpu":
        for key in fields.keys() & {"isa", "threads"}:
            reader.fault((*keys, key), f"got {fields[key]}, which only a device type with backend: cpu has", of_key=True)
    for key, field in (("memory", "memory_bytes"), ("peak_flops", "peak_flops_per_s")):
        if key in fields:
            fields[field] = fields.pop(key)
    if "catalogue" in fields:
        try:
            entry = accelerator(fields["catalogue"])
        except InputError as error:
            reader.fault((*keys, "catalogue"), error.problems[0].what, error.problems[0].help)
            return None
        fields["catalogue"] = entry.name
        fields.setdefault("memory_bytes", entry.memory_bytes)
        board_w = entry.power_w
        if "power" not in fields and board_w is not None:
            fields["power"] = Power(board_w, assumed=True)
    _check_price(reader, (*keys, "price"), section.price)
    if section.price is not None:
        fields["price"] = _price(section.price)
    if section.power is not None:
        fields["power"] = Power(section.power.busy, section.power.idle)
    return DeviceType(name, **fields)


def _price(section: PriceSection) -> Price:
    return Price(section.purchase, section.life, section.per_hour)


def _owning(row: NodeSection) -> tuple[Price | None, float | None, int | None]:
    """Price, power and slots of a node."""
    return _price(row.price) if row.price else None, row.power, row.slots


def _check_types(reader: Reader, known: list[str]) -> None:
    """Every device of every node has a type that is declared, even where other things are wrong with it."""
    for place, _ in enumerate(_entries(reader, "nodes", list)):
        keys = ("cluster", "nodes", place, "devices")
        devices = reader.document.at(keys)
        for name in devices if isinstance(devices, dict) else ():
            if known and name not in known:
                what = "is no device type of cluster.device_types"
                reader.fault((*keys, name), what, did_you_mean(name, known), of_key=True)


def _check_node_names(reader: Reader) -> None:
    first: dict[str, int] = {}
    for place, _ in enumerate(_entries(reader, "nodes", list)):
        keys = ("cluster", "nodes", place, "name")
        name = reader.document.at(keys)
        if isinstance(name, str) and first.setdefault(name, place) != place:
            reader.fault(keys, f'got "{name}", which node {first[name]} is called too; names of nodes are unique')


def _check_not_devices(reader: Reader, devices: Sequence[str]) -> None:
    """No node is called what a device is: either may be an end of a wire."""
    for place, _ in enumerate(_entries(reader, "nodes", list)):
        keys = ("cluster", "nodes", place, "name")
        if (name := reader.document.at(keys)) in devices:
            reader.fault(
                keys, f'got "{name}", which a device is called, too: devices are named by their types', "Rename the node"
            )


def _check_price(reader: Reader, keys: tuple[Key, ...], price: PriceSection | None) -> None:
    """It is said in one way."""
    if price and price.per_hour is not None and (price.purchase is not None or price.life is not None):
        reader.fault(keys, "got per_hour and a purchase, expected one of them", of_key=True)
    elif price and price.life is not None and price.purchase is None:
        reader.fault(keys, "got a life without a purchase", "Write purchase: and the price", of_key=True)


def _check_owning(reader: Reader, rows: Sequence[NodeSection | None]) -> None:
    """Prices of nodes are said in one way, and a node has slots for what is in it."""
    for place, row in enumerate(rows):
        keys = ("cluster", "nodes", place)
        if row:
            _check_price(reader, (*keys, "price"), row.price)
            held = sum(e.count or len(e.cores or e.index or ()) for e in row.devices.values())
            if row.slots is not None and row.slots < held:
                reader.fault((*keys, "slots"), f"got {row.slots}, and the node holds {held} devices")


def _check_reach(reader: Reader, rows: Sequence[NodeSection | None]) -> None:
    """A node of another host has an address, and then all of them need one."""
    others = [row for row in rows if row and (row.ssh or row.netns)]
    for place, row in enumerate(rows):
        keys = ("cluster", "nodes", place)
        if row and row.ssh and row.netns:
            reader.fault(
                (*keys, "netns"), "a node is another host (ssh) or a namespace of this one (netns), not both", of_key=True
            )
        if row and others and not row.address:
            reader.fault(
                keys, f'the key "address" is missing, and {others[0].name} is another host', "Say where the others reach it"
            )


def _devices(
    reader: Reader, place: int, row: NodeSection, types: dict[str, DeviceType], names: DeviceNames
) -> Iterator[Device]:
    """The devices of a node. CUDA devices without an `index` take the ordinals that are left, in order."""
    written = [index for entry in row.devices.values() for index in entry.index or ()]
    left = (index for index in itertools.count() if index not in written)
    for name, entry in row.devices.items():
        keys = ("cluster", "nodes", place, "devices", name)
        kind = types.get(name)
        if kind is None or not _is_countable(reader, keys, kind, entry):
            continue
        for index in entry.index or ():
            if written.count(index) > 1:
                reader.fault((*keys, "index"), f"the ordinal {index} belongs to two devices of the node {row.name}")
        for i in range(entry.count or len(entry.cores or entry.index or ())):
            cores = tuple(entry.cores[i]) if entry.cores else ()
            index = entry.index[i] if entry.index else next(left) if kind.backend == "cuda" else 0
            yield Device(names.next(name), name, row.name, index, cores)


def _is_countable(reader: Reader, keys: tuple[Key, ...], kind: DeviceType, entry: DevicesSection) -> bool:
    """Whether an entry says in one way, and a way that suits the backend, how many devices there are."""
    given = entry.model_dump(exclude_none=True)
    if len(given) != 1:
        got = " and ".join(given) or "none"
        reader.fault(keys, f"got {got}, expected exactly one of count, cores, index")
        return False
    for key, backend in (("cores", "cpu"), ("index", "cuda")):
        if key in given and kind.backend != backend:
            what = f"only devices with backend: {backend} have {key}, and {kind.name} has backend: {kind.backend}"
            reader.fault((*keys, key), what, "Write a count", of_key=True)
            return False
    return True


def _network(reader: Reader, section: ClusterSection) -> Link | None:
    """The network; with a single node, which never uses it, it may be left out."""
    if section.network is not None:
        return _link("network", section.network)
    if section.wires:
        return _link("network", section.wires[0])
    if len(section.nodes) > 1:
        reader.fault(("cluster", "network"), 'the key "network" is missing, and nodes talk over it', of_key=True)
    return None


def _node_link(reader: Reader, place: int, row: NodeSection, devices: int, network: Link | None) -> Link | None:
    """The link of a node; with a single device, which never uses it, it may be left out."""
    if row.link is not None or row.wires:
        return _link(row.name, row.link or (row.wires or [])[0])
    if devices > 1:
        reader.fault(
            ("cluster", "nodes", place, "link"),
            f'the key "link" is missing, and devices of the node {row.name} talk over it',
            "Write link: {latency: 10 us, bandwidth: 12 GB/s}",
            of_key=True,
        )
        return None
    return replace(network or _UNUSED, name=row.name)


def _link(name: str, section: LinkSection) -> Link:
    return Link(name, section.latency, section.bandwidth, section.duplex == "half")


def _wires(sections: Sequence[WireSection] | None) -> tuple[Wire, ...]:
    return tuple(Wire((row.between[0], row.between[1]), _link(" - ".join(row.between), row)) for row in sections or ())


def _check_wires(reader: Reader, cluster: Cluster) -> None:
    """Wires lead from every device to its node, and from every node to every other."""
    topology = Topology(cluster)
    for place, node in enumerate(cluster.nodes):
        if node.wires:
            cut_off = [d.name for d in node.devices if not topology.joins(d.name, node.name)]
            if cut_off:
                what = f"no wires lead from {', '.join(cut_off)} to {node.name}"
                reader.fault(
                    ("cluster", "nodes", place, "wires"),
                    what,
                    "Devices are called " + ", ".join(d.name for d in node.devices),
                )
    if cluster.wires:
        first, *others = (node.name for node in cluster.nodes)
        if apart := [name for name in others if not topology.joins(first, name)]:
            reader.fault(("cluster", "wires"), f"no wires lead from {first} to {', '.join(apart)}")
