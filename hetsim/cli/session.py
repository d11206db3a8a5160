"""What every command starts from: the scenario, its networks as chains, and their costs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.cli.output import talk
from hetsim.costs import CostModel, CostTable
from hetsim.costs.files import cost_files, read_cost_table
from hetsim.costs.model import shortened
from hetsim.costs.residuals import Correction, Residual, corrected, corrections, read_residuals
from hetsim.costs.samples import differences
from hetsim.costs.transfer import with_transferred
from hetsim.errors import CostError, InputError, NetworkError, Problem, ScenarioError
from hetsim.files import write_text
from hetsim.reading import read_text
from hetsim.runs import RunDirectory, RunWriter
from hetsim.scenario import load_scenario
from hetsim.scenario.types import NetworkSpec, Scenario
from hetsim.workload import Chain

if TYPE_CHECKING:
    from calibration.coordinator import Calibration


_MEND = (
    "Measure it on a machine that has such devices: hetsim calibrate {path}; or let it be transferred from a measured device type: "
    "name the accelerators of both under cluster.device_types, as catalogue: K80"
)


class Session:
    """One command's view of a scenario. Torch is imported only to build a network that was never seen before."""

    def __init__(self, path: Path, networks: Sequence[str] | None, costs: Path, *, allow_outdated: bool = False) -> None:
        """With `allow_outdated`, costs that were measured under other conditions than today's are taken, and marked."""
        scenario = load_scenario(path)
        known = [spec.name for spec in scenario.networks]
        if unknown := [name for name in networks or () if name not in known]:
            raise InputError(f"{path} has no network {', '.join(unknown)}; it has {', '.join(known)}")
        chosen = tuple(spec for spec in scenario.networks if not networks or spec.name in networks)
        self.scenario = replace(scenario, networks=chosen)
        self.path = path
        self.directory = costs / scenario.name
        self.outdated: list[str] = []
        """Device types whose costs are outdated and taken all the same."""

        self._allow_outdated = allow_outdated
        self._told: set[tuple[str, str]] = set()

    @property
    def live(self) -> tuple[NetworkSpec, ...]:
        """The networks whose costs are measured, not read from a table of the scenario's own."""
        return tuple(spec for spec in self.scenario.networks if spec.costs is None)

    @cached_property
    def chains(self) -> Mapping[str, Chain]:
        """Network -> its chain."""
        return {spec.name: spec.chain or self.built_chain(spec) for spec in self.scenario.networks}

    @cached_property
    def calibration(self) -> Calibration:
        """The cost directory of the live networks. Raises CostError where a device type is on paper only: nobody can measure it."""
        from calibration.coordinator import Calibration

        if paper := [kind.name for kind in self.scenario.cluster.used_types if kind.backend == "paper"]:
            where = f'{self.path}, network "{self.live[0].name}"'
            what = f"names no cost table, and none can be measured: {', '.join(paper)} exist on paper only"
            mend = "Name its cost table (costs: FILE), or set backend: cpu or cuda for device types that this machine has"
            raise CostError(Problem(where, what, mend))
        calibration = Calibration(replace(self.scenario, networks=self.live), self.chains, self.directory)
        if self._allow_outdated:
            for kind, words in _differences(calibration).items():
                self.outdated.append(kind)
                talk(f"{kind} was measured under other conditions: {words}")
            calibration.take_outdated()
        return calibration

    @cached_property
    def residuals(self) -> tuple[Residual, ...]:
        """What real runs said of the measured costs. Raises CostError where the file is damaged."""
        return read_residuals(self.directory)

    @cached_property
    def corrections(self) -> Mapping[str, Correction]:
        """Device type -> what its measured costs are corrected by."""
        return corrections(self.residuals)

    def with_powers(self) -> Scenario:
        """The scenario, with the power that was measured beside the layers of device types of which it says none."""
        measured = self.calibration.powers if self.live else {}
        cluster = self.scenario.cluster
        types = {
            name: replace(kind, power=measured[name])
            if name in measured and (kind.power is None or kind.power.assumed)
            else kind
            for name, kind in cluster.device_types.items()
        }
        return replace(self.scenario, cluster=replace(cluster, device_types=types))

    def is_fitted(self, network: str, plan: str) -> bool:
        """Whether the costs were corrected by a run of this very plan, so that its prediction proves nothing."""
        return any((row.network, row.plan) == (network, plan) for row in self.residuals)

    def table(self, spec: NetworkSpec) -> CostTable:
        """The cost table of one network: its own, or what has been measured so far.

        Raises CostError where its file is faulty, or where a network of numbers alone has none.
        """
        if spec.costs is not None:
            return read_cost_table(spec.costs, spec.name)
        if spec.chain is not None:
            raise CostError(
                Problem(
                    f'{self.path}, network "{spec.name}"',
                    "is given as numbers and has no costs",
                    "Name its cost table: costs: FILE",
                )
            )
        return corrected(self.calibration.measured(spec.name).table, self.corrections)

    def known_costs(self, spec: NetworkSpec) -> CostModel:
        """The cost model of one network as far as costs are known or can be transferred: enough to check a plan."""
        cluster, chain = self.scenario.cluster, self.chains[spec.name]
        table = self.table(spec)
        self._tell_of_strange_layers(spec, table, chain)
        result = with_transferred(table, chain, cluster.device_types.values(), spec.training.dtype)
        used = {kind.name for kind in cluster.used_types}
        for name, origin in result.sources.items():
            if name in used and (spec.name, name) not in self._told:
                self._told.add((spec.name, name))
                talk(f"{spec.name}: nothing was measured on {name}; its costs are transferred from {', '.join(origin)}")
        return CostModel(chain, cluster, result.table)

    def costs(self, spec: NetworkSpec) -> CostModel:
        """The cost model of one network. Raises CostError where a device type that the cluster has is not priced."""
        model = self.known_costs(spec)
        if spec in self.live and (outdated := _differences(self.calibration)):
            raise CostError(
                [
                    Problem(
                        str(self.directory),
                        f"{kind} was measured under other conditions: {words}",
                        f"Measure it again: hetsim calibrate {self.path}; or take the costs as they are: --allow-outdated",
                    )
                    for kind, words in outdated.items()
                ]
            )
        if not model.table.layers:
            raise CostError(
                Problem(
                    "",
                    f"nothing has been measured for {spec.name} in {self.directory}",
                    f"Measure it: hetsim calibrate {self.path}",
                )
            )
        try:
            model.require(kind.name for kind in self.scenario.cluster.used_types)
        except CostError as error:
            raise CostError(Problem("", str(error), _MEND.format(path=self.path))) from None
        return model

    def _tell_of_strange_layers(self, spec: NetworkSpec, table: CostTable, chain: Chain) -> None:
        """Say which rows of a table that was given are of no use, because the network has no such layers; once."""
        names = [layer.name for layer in chain.layers]
        strange = [name for name in dict.fromkeys(row.layer for row in table.layers) if name not in names and name[0] != "@"]
        if strange and spec.costs is not None and (spec.name, "layers") not in self._told:
            self._told.add((spec.name, "layers"))
            talk(f"{spec.costs}: {spec.name} has no layer {', '.join(strange)}; it has {shortened(names)}")

    def new_run(self, runs: Path) -> RunWriter:
        """A run directory below `runs`, to be used in a `with` block; its inputs are the scenario and the cost files given.

        Raises RunDirectoryError where it cannot be made or an input cannot be read.
        """
        own = [file for spec in self.scenario.networks if spec.costs for file in cost_files(spec.costs, spec.name)]
        inputs = tuple(dict.fromkeys([self.path, *own]))
        text = read_text(self.path, ScenarioError)
        return RunDirectory.create(runs, self.scenario.name, text, seed=self.scenario.seed, argv=sys.argv, inputs=inputs)

    def built_chain(self, spec: NetworkSpec) -> Chain:
        """The chain of a network that torch has to build, kept on file because building takes seconds."""
        from calibration.keys import network_key
        from hetsim.workload_files import chain_from_json, chain_to_json

        file = self.directory / "chains" / f"{network_key(spec, self.scenario.seed)}.json"
        if file.exists():
            with contextlib.suppress(NetworkError):  # a damaged copy is made anew
                return replace(chain_from_json(read_text(file, NetworkError), str(file)), name=spec.name)
        from hetsim.models.intake import chain_of
        from hetsim.models.zoo import build

        chain = chain_of(build(spec, self.scenario.seed), spec.training.dtype)
        write_text(file, chain_to_json(chain))
        return chain


def _differences(calibration: Calibration) -> dict[str, str]:
    """Device type with outdated costs -> what is another today, in words."""
    today = calibration.fingerprints
    return {
        kind: ", ".join(f"{key} was {was} and is {now}" for key, was, now in differences(then, today[kind]))
        for kind, then in calibration.outdated().items()
    }
