"""The plan: one type for every way to split a network over devices.

A *stage* is a contiguous run of layers on one device, or on a tensor-parallel group of like devices of one node. A *replica* is
a chain of stages that together hold the whole network once, with its share of the batch, cut into microbatches. A *plan* is a
tuple of replicas. Data parallel is many replicas of one stage; model parallel one replica of many stages; hybrid many of many.

A plan has a one-line text form that parses back::

    fast0[0:9] 56/1 | slow0[0:9] 8/1                two replicas: data parallel, 56 and 8 samples
    fast0[0:6] > slow0[6:9] 64/4; 1f1b              one replica of two stages, 64 samples in 4 microbatches
    a0[0:4] > b0[4:9] 40/4 | c0[0:9] 24/1; gpipe    hybrid: the replicas are cut at different places
    a0[0:2] > b0[2:5] > a0[5:7] > b0[7:9] 64/4; interleaved    two stages a device
    a0+a1[0:9] 32/1 | b0[0:9] 32/1; tree            a tensor-parallel pair; gradients exchanged over a tree

`device[start:stop]` holds layers start..stop-1, counted from 0; `samples/microbatches` follows the stages. The schedule and the
exchange of gradients stand behind semicolons; without the latter it is `ring`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from hetsim.errors import PlanError, Problem
from hetsim.hardware import Cluster
from hetsim.workload import Chain

ScheduleName = Literal["gpipe", "1f1b", "interleaved"]
"""Order of work in a pipeline; interleaved where its devices hold several stages each."""

SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)

OUTLINE_SIGNS = frozenset("×–")
"""What stands in the outline of a plan of many devices, and in no plan: `4 × v100[0:4] 30–32/4`."""


PlainScheduleName = Literal["gpipe", "1f1b"]
"""Those for one stage a device. With one microbatch either is plain model parallelism."""

PLAIN_SCHEDULES: tuple[PlainScheduleName, ...] = get_args(PlainScheduleName)

ExchangeName = Literal["ring", "tree", "hierarchical", "ps"]
"""How replicas add up their gradients. `ps`: through parameter servers."""

EXCHANGES: tuple[ExchangeName, ...] = get_args(ExchangeName)

_STAGE = re.compile(r"(?P<devices>[\w.\-/]+(?:\+[\w.\-/]+)*)\[(?P<start>[0-9]{1,12}):(?P<stop>[0-9]{1,12})\]")
_SHARE = re.compile(r"(?P<stages>.*\])\s+(?P<samples>[0-9]{1,12})/(?P<microbatches>[0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Exchange:
    """How replicas add up their gradients."""

    kind: ExchangeName = "ring"
    """`ring` is what libraries do as a rule: the cost table's measured all-reduce is taken for it where there is one."""

    servers: tuple[str, ...] = ()
    """Of `ps`: the nodes that hold the parameters, each an equal part."""

    whole: bool = False
    """Whether a segment's gradients go as one message after the last backward, rather than in buckets during it."""

    def __str__(self) -> str:
        text = f"ps@{'+'.join(self.servers)}" if self.kind == "ps" else self.kind
        return f"whole {text}" if self.whole else text


@dataclass(frozen=True, slots=True)
class Stage:
    """A contiguous run of layers, `start` to `stop` - 1, on one device or a tensor-parallel group."""

    device: str
    """The device; of a group the first one, which stands for all: they do the same at the same time."""

    start: int
    stop: int
    partners: tuple[str, ...] = ()
    """The other devices of the group."""

    @property
    def group(self) -> tuple[str, ...]:
        """All its devices."""
        return (self.device, *self.partners)

    @property
    def layers(self) -> range:
        """Indices of the layers it holds."""
        return range(self.start, self.stop)

    def __str__(self) -> str:
        return f"{'+'.join(self.group)}[{self.start}:{self.stop}]"


@dataclass(frozen=True, slots=True)
class Replica:
    """Stages that hold the whole network once, and the batch share they take."""

    stages: tuple[Stage, ...]
    samples: int
    microbatches: int = 1

    @property
    def microbatch_samples(self) -> int:
        """Samples in one microbatch; all microbatches of a replica are equal."""
        return self.samples // self.microbatches

    @property
    def leaders(self) -> tuple[str, ...]:
        """Names of the devices that stand for their stages, each once, in the order of the stages."""
        return tuple(dict.fromkeys(stage.device for stage in self.stages))

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of its devices, each once, in the order of the stages."""
        return tuple(dict.fromkeys(device for stage in self.stages for device in stage.group))

    @property
    def is_pipelined(self) -> bool:
        """Whether its devices have several microbatches in flight, which their costs depend on."""
        return len(self.stages) > 1 and self.microbatches > 1

    def __str__(self) -> str:
        return f"{' > '.join(map(str, self.stages))} {self.samples}/{self.microbatches}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The split: who holds which layers and works on which share of the batch, in what order."""

    replicas: tuple[Replica, ...]
    schedule: ScheduleName = "gpipe"
    exchange: Exchange = Exchange()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that work, in the order of the replicas."""
        return tuple(device for replica in self.replicas for device in replica.devices)

    @property
    def global_batch(self) -> int:
        """Samples in one step."""
        return sum(replica.samples for replica in self.replicas)

    @property
    def is_cut(self) -> bool:
        """Whether any replica is cut into more than one stage, so that the schedule matters."""
        return any(len(replica.stages) > 1 for replica in self.replicas)

    def __str__(self) -> str:
        parts = [" | ".join(map(str, self.replicas))]
        parts += [self.schedule] if self.is_cut else []
        parts += [str(self.exchange)] if self.exchange != Exchange() else []
        return "; ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that `text` writes. Raises PlanError with the piece that could not be read."""
        body, *words = (part.strip() for part in text.split(";"))
        if set(text) & OUTLINE_SIGNS:
            what = "is an outline for people, which does not say which devices it means"
            raise PlanError(Problem(f'plan "{text}"', what, "Take the plan in full, from plans.json in the run directory"))
        schedule: ScheduleName = "gpipe"
        exchange = Exchange()
        for word in words:
            if known := [name for name in SCHEDULES if name == word]:
                schedule = known[0]
            elif word:
                exchange = _parse_exchange(word, text)
        return cls(tuple(_parse_replica(part.strip(), text) for part in body.split("|")), schedule, exchange)

    def check(self, chain: Chain, cluster: Cluster, global_batch: int) -> None:
        """Raise PlanError with every reason why this plan cannot train `chain` on `cluster` at `global_batch`."""
        where = f'plan "{self}"'
        problems = [Problem(where, what) for what in self._faults(chain, cluster, global_batch)]
        if problems:
            raise PlanError(problems)

    def _faults(self, chain: Chain, cluster: Cluster, global_batch: int) -> Iterator[str]:
        known = {device.name for device in cluster.devices}
        if unknown := [device for device in self.devices if device not in known]:
            yield f"unknown device {', '.join(unknown)}; the cluster has {', '.join(sorted(known))}"
        if len(set(self.devices)) < len(self.devices):
            yield "a device stands in two replicas"
        nodes = [node.name for node in cluster.nodes]
        if strange := [server for server in self.exchange.servers if server not in nodes]:
            yield f"unknown node {', '.join(strange)} for parameter servers; the cluster has {', '.join(nodes)}"
        if not unknown:
            yield from self._group_faults(cluster)
        if self.global_batch != global_batch:
            yield f"its batch shares add up to {self.global_batch}, expected the global batch of {global_batch}"
        for number, replica in enumerate(self.replicas):
            cuts = [0, *(stage.stop for stage in replica.stages)]
            starts = [stage.start for stage in replica.stages]
            if starts != cuts[:-1] or cuts[-1] != len(chain) or any(s.start >= s.stop for s in replica.stages):
                yield (
                    f"replica {number} does not cover the {len(chain)} layers of {chain.name} once, in order: "
                    f"its stages hold {', '.join(f'[{s.start}:{s.stop}]' for s in replica.stages)}"
                )
            if replica.samples < 1 or replica.microbatches < 1 or replica.samples % replica.microbatches:
                yield (
                    f"replica {number} cannot cut {replica.samples} samples into {replica.microbatches} equal "
                    f"microbatches; write a share that {replica.microbatches} divides"
                )

    def _group_faults(self, cluster: Cluster) -> Iterator[str]:
        groups: dict[str, tuple[str, ...]] = {}
        for stage in dict.fromkeys(stage for replica in self.replicas for stage in replica.stages):
            name = "+".join(stage.group)
            if len(set(stage.group)) < len(stage.group):
                yield f"the tensor-parallel group {name} names a device twice"
            if len({(cluster.device(d).type, cluster.device(d).node) for d in stage.group}) > 1:
                yield f"the tensor-parallel group {name} is not of like devices of one node"
            if any(groups.setdefault(device, stage.group) != stage.group for device in stage.group):
                yield f"a device of {name} stands in another tensor-parallel group too, or alone"


def _parse_exchange(word: str, whole: str) -> Exchange:
    at_once = word.startswith("whole ")
    kind, _, servers = word.removeprefix("whole ").partition("@")
    if kind == "ps" and servers:
        return Exchange("ps", tuple(servers.split("+")), at_once)
    if not servers and (known := [name for name in EXCHANGES if name == kind != "ps"]):
        return Exchange(known[0], whole=at_once)
    raise PlanError(
        Problem(
            f'plan "{whole}"',
            f'got "{word}", expected a schedule ({", ".join(SCHEDULES)}) or an exchange ({", ".join(EXCHANGES)}@NODE+NODE)',
        )
    )


def _parse_replica(text: str, whole: str) -> Replica:
    share = _SHARE.fullmatch(text)
    if share is None:
        raise PlanError(
            Problem(
                f'plan "{whole}"',
                f'cannot read "{text}"',
                "Write replicas as device[start:stop] > … samples/microbatches",
            )
        )
    stages = []
    for piece in share["stages"].split(">"):
        match = _STAGE.fullmatch(piece.strip())
        if match is None:
            raise PlanError(
                Problem(
                    f'plan "{whole}"',
                    f'cannot read stage "{piece.strip()}"',
                    "Write it as device[start:stop]",
                )
            )
        device, *partners = match["devices"].split("+")
        stages.append(Stage(device, int(match["start"]), int(match["stop"]), tuple(partners)))
    return Replica(tuple(stages), int(share["samples"]), int(share["microbatches"]))
