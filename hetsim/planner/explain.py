"""Why the chosen plan: one sentence for each thing that a user would ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hetsim.hardware import Cluster
from hetsim.planner.result import Candidate
from hetsim.units import format_percent, format_seconds


def explain(
    candidates: Sequence[Candidate],
    baselines: Sequence[Candidate],
    lower_bound_s: float,
    unpriceable: Sequence[str],
    cluster: Cluster,
) -> tuple[str, ...]:
    """Sentences on the first of `candidates`: how it compares, what is left to gain, which devices it leaves out and why."""
    chosen = candidates[0]
    sentences = [_comparison(chosen, baselines)]
    sentences += _left_to_gain(chosen, lower_bound_s)
    sentences += _left_out(candidates, cluster)
    if unpriceable:
        shown = ", ".join(unpriceable[:3]) + (f" and {len(unpriceable) - 3} more" if len(unpriceable) > 3 else "")
        sentences.append(f"The cost table lacks {shown}; no plan that needs these was considered.")
    return tuple(sentences)


def _comparison(chosen: Candidate, baselines: Sequence[Candidate]) -> str:
    takes = f"{chosen.name} takes {format_seconds(chosen.step_s)} a step"
    best = min(baselines, key=lambda row: row.step_s, default=None)
    if best is None:
        return f"{takes}; no baseline fits."
    if chosen.step_s >= best.step_s:
        return f"{takes}; nothing beats the baseline {best.name}."
    gain = best.step_s / chosen.step_s
    return f"{takes}, {gain:.3g} times as fast as the best baseline, {best.name} ({format_seconds(best.step_s)})."


def _left_to_gain(chosen: Candidate, lower_bound_s: float) -> Iterator[str]:
    """How far from the best possible the chosen plan may be."""
    if lower_bound_s <= 0:
        return
    left = 1 - lower_bound_s / chosen.step_s
    if left < 0.0005:
        yield "No plan of the searched strategies is faster: the lower bound is reached."
    else:
        bound = f"No plan of the searched strategies takes less than {format_seconds(lower_bound_s)}"
        yield f"{bound}, so at most {format_percent(left)} of the step is left to gain."


def _left_out(candidates: Sequence[Candidate], cluster: Cluster) -> Iterator[str]:
    """A sentence for each device type of which the chosen plan leaves devices idle."""
    chosen = candidates[0]

    def members(candidate: Candidate, kind: str) -> list[str]:
        return [name for name in candidate.plan.devices if cluster.device(name).type == kind]

    for kind in cluster.used_types:
        working = members(chosen, kind.name)
        idle = [d.name for d in cluster.devices if d.type == kind.name and d.name not in working]
        if not idle:
            continue
        names = ", ".join(idle[:-1]) + f" and {idle[-1]}" if len(idle) > 1 else idle[0]
        rival = next((row for row in candidates if len(members(row, kind.name)) > len(working)), None)
        if rival is None:
            yield f"{names} {'stay' if len(idle) > 1 else 'stays'} idle: no plan with more of {kind.name} is possible."
            continue
        longer = format_percent(rival.step_s / chosen.step_s - 1) if chosen.step_s > 0 else "0.0 %"
        what = f"with more of {kind.name}" if working else f"with {kind.name}"
        yield (
            f"{names} {'are' if len(idle) > 1 else 'is'} worth nothing here: the best plan {what}, {rival.name}, "
            f"takes {format_seconds(rival.step_s)}, {longer} longer."
        )
