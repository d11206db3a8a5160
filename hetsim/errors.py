"""Every error that hetsim raises on purpose, as one tree.

::

    HetsimError                 exit code 1: catch this one to catch them all
    ├── InputError              exit code 2: something the user wrote cannot be used
    │   ├── ScenarioError           the scenario file
    │   ├── CostError               a cost table, or a cost that it lacks
    │   ├── PlanError               a plan that does not fit its network, cluster or batch
    │   ├── NetworkError            the user's own network
    │   └── RunDirectoryError       a run directory that is not one, or is damaged
    │       └── NoRoomError         exit code 6: a disk too full for what a run writes
    ├── InfeasibleError         exit code 3: no plan satisfies the limits
    ├── GateError               exit code 4: a threshold the user set was crossed
    ├── CalibrationError        exit code 5: measuring failed, or the measurements are stale
    └── RunError                exit code 6: the real run failed
        └── RankError               because one rank died or hung

An error that concerns a file carries `Problem` rows: all faults found, each with its place. All errors survive pickling
and `type(e)(*e.args)`, which SimPy and process pools demand of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where it is, what was got and expected, and how to mend it."""

    where: str
    """`file:line:column`, or the name of the object at fault; empty where there is nothing to point at."""

    what: str
    """What is wrong, with the value that was got and what was expected."""

    help: str = ""
    """How to mend it."""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return _printable(f"{place}{self.what}" + (f". {self.help}" if self.help else ""))


def _printable(text: str) -> str:
    """`text`, with an escape for each character that would do something to a terminal rather than show."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class HetsimError(Exception):
    """Base of all errors of hetsim. `args` is `(problems,)`, or `(message,)` when there is one fault and no place."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            rows: tuple[Problem, ...] = (Problem("", problems),)
        elif isinstance(problems, Problem):
            rows = (problems,)
        else:
            rows = tuple(problems)
        self.problems = rows
        super().__init__(rows)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def described(error: BaseException) -> str:
    """`error` in a line: its type and what it says, as far as it can say anything."""
    try:
        said = str(error)
    except Exception:
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class InputError(HetsimError):
    """Something that the user wrote cannot be used."""

    code = "bad-input"
    exit_code = 2


class ScenarioError(InputError):
    """The scenario file is wrong."""

    code = "bad-scenario"


class CostError(InputError):
    """A cost table cannot be read, or lacks a cost that is needed."""

    code = "bad-costs"


class PlanError(InputError):
    """A plan does not fit its network, cluster, batch or memory."""

    code = "bad-plan"


class NetworkError(InputError):
    """The user's network cannot be taken in as a chain of layers."""

    code = "bad-network"


class RunDirectoryError(InputError):
    """A run directory is missing, foreign or damaged."""

    code = "bad-run-directory"


class NoRoomError(RunDirectoryError):
    """A disk is too full for what a run writes. It ends the run as a rank that fails does."""

    code = "no-room"
    exit_code = 6


class InfeasibleError(HetsimError):
    """No plan satisfies the limits."""

    code = "infeasible"
    exit_code = 3


class GateError(HetsimError):
    """A threshold that the user set was crossed."""

    code = "gate"
    exit_code = 4


class CalibrationError(HetsimError):
    """Measuring failed, or the measurements on file belong to another machine or set-up."""

    code = "calibration"
    exit_code = 5


class RunError(HetsimError):
    """The real run failed."""

    code = "run-failed"
    exit_code = 6


class RankError(RunError):
    """One rank died or hung, and the run was ended because of it."""

    code = "rank-failed"
