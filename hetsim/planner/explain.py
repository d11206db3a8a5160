"""Why the chosen plan: one sentence for each thing that a user would ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hetsim.hardware import Cluster
from hetsim.objective import format_figure
from hetsim.planner.result import Candidate, PlanningResult
from hetsim.units import format_percent, format_seconds


def explain(result: PlanningResult, cluster: Cluster, currency: str) -> tuple[str, ...]:
    """Sentences on the chosen plan: how it compares, what is left to gain, which devices it leaves out and why."""
    words = _Words(result, currency)
    sentences = [
        words.comparison(),
        *words.left_to_gain(),
        *words.unsearched(),
        *words.of_plain_plans(),
        *words.left_out(cluster),
    ]
    if result.unpriceable:
        lacking = result.unpriceable
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        sentences.append(f"The cost table lacks {shown}; no plan that needs these was considered.")
    return tuple(sentences)


@dataclass(frozen=True, slots=True)
class _Words:
    """What is said of one result, in words of its objective."""

    result: PlanningResult
    currency: str

    def value(self, row: Candidate) -> float:
        """What candidates are compared by."""
        return row.figure(self.result.objective.least)

    def text(self, value: float) -> str:
        """Such a figure in words."""
        return format_figure(self.result.objective.least, value, self.currency)

    @property
    def takes(self) -> str:
        """The verb that goes with it."""
        return "costs" if self.result.objective.least == "money" else "takes"

    def comparison(self) -> str:
        chosen = self.result.chosen
        takes = f"{chosen.name} {self.takes} {self.text(self.value(chosen))}"
        within = [row for row in self.result.baselines if row.excess(self.result.objective) <= 0]
        best = min(within, key=self.value, default=None)
        if best is None:
            return f"{takes}; no baseline {'keeps the limits' if self.result.baselines else 'fits'}."
        if self.value(chosen) > self.value(best):  # chosen for what it stays under, not for what it takes in the middle
            return f"{takes}; in the middle the baseline {best.name} is better ({self.text(self.value(best))})."
        if self.value(chosen) == self.value(best):
            return f"{takes}; nothing beats the baseline {best.name}."
        gain = self.value(best) / self.value(chosen) if self.value(chosen) else float("inf")
        told = self.text(self.value(best)).removesuffix(" a step")
        if self.result.objective.least == "time":
            return f"{takes}, {gain:.3g} times as fast as the best baseline, {best.name} ({told})."
        return f"{takes}, {format_percent(1 - 1 / gain)} less than the best baseline, {best.name} ({told})."

    def left_to_gain(self) -> Iterator[str]:
        """How far from the best possible the chosen plan may be."""
        bound, value = self.result.lower_bound, self.value(self.result.chosen)
        if bound <= 0:
            return
        left, is_time = 1 - bound / value, self.result.objective.least == "time"
        within = " within the limits" if self.result.objective.limits else ""
        if left < 0.0005:
            better = {"time": "is faster", "money": "costs less", "energy": "takes less"}[self.result.objective.least]
            yield f"No plan of the searched strategies{within} {better}: the lower bound is reached."
        else:
            under = f"{self.takes} less than {self.text(bound).removesuffix(' a step')}"
            of_what = "of the step" if is_time else "of that"
            gain = f"at most {format_percent(left)} {of_what} is left to gain"
            yield f"No plan of the searched strategies{within} {under}, so {gain}."
            if self.result.left_open and not self.result.ended_early:
                yield "The search did all the work that is allotted to it; whether the plan or that bound is at fault is not known."

    def unsearched(self) -> Iterator[str]:
        """Which plans the bound does not speak of."""
        if self.result.unsearched:
            yield f"{' and '.join(self.result.unsearched).capitalize()} were not looked for; the bound does not speak of them."

    def of_plain_plans(self) -> Iterator[str]:
        """What is known of plans without variants, whose bound is the better one."""
        plain_s = self.result.plain_bound_s
        if plain_s and self.result.objective.least == "time":
            yield (
                "That bound is of the work alone, for all that is searched; "
                f"with one stage a device and rings none takes less than {format_seconds(plain_s)}."
            )

    def left_out(self, cluster: Cluster) -> Iterator[str]:
        """A sentence for each device type of which the chosen plan leaves devices idle."""
        chosen, limits = self.result.chosen, self.result.objective.limits
        rivals = [row for row in self.result.candidates if row.excess(self.result.objective) <= 0]

        def members(candidate: Candidate, kind: str) -> list[str]:
            return [name for name in candidate.plan.devices if cluster.device(name).type == kind]

        for kind in cluster.used_types:
            working = members(chosen, kind.name)
            idle = [d.name for d in cluster.devices if d.type == kind.name and d.name not in working]
            if not idle:
                continue
            names = ", ".join(idle[:-1]) + f" and {idle[-1]}" if len(idle) > 1 else idle[0]
            rival = next((row for row in rivals if len(members(row, kind.name)) > len(working)), None)
            if rival is None:
                possible = "keeps the limits" if limits else "is possible"
                yield f"{names} {'stay' if len(idle) > 1 else 'stays'} idle: no plan with more of {kind.name} {possible}."
                continue
            change = self.value(rival) / self.value(chosen) - 1 if self.value(chosen) > 0 else 0.0
            what = f"with more of {kind.name}" if working else f"with {kind.name}"
            # A plan that is behind in the middle may have been chosen for what it stays under.
            verdict = "worth nothing here" if change >= 0 else "left out"
            yield (
                f"{names} {'are' if len(idle) > 1 else 'is'} {verdict}: the best plan {what}, {rival.name}, "
                f"{self.takes} {self.text(self.value(rival)).removesuffix(' a step')}, {self._more(change)}."
            )

    def _more(self, change: float) -> str:
        longer, shorter = ("longer", "shorter") if self.result.objective.least == "time" else ("more", "less")
        return f"{format_percent(abs(change))} {longer if change >= 0 else shorter}"
