"""The checker's report: for each invariant a verdict, the figure it stands on, and examples."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pipeline.eventstore import InvalidDocuments

EXAMPLES: Final = 10
NONE: Final = InvalidDocuments()
_LONGEST: Final = 500

TITLES: Final = {
    1: "money adds up and every transfer nets to zero",
    2: "versions of each account are 1…n",
    3: "acknowledged commands are kept, rejected ones left nothing",
    4: "each document equals the fold of its events",
    5: "no balance was ever below zero, nor what is available",
    8: "one idempotency key, one effect, one answer",
    13: "the guards in the servers are what they should be",
    16: "each event is the one that was stored, and follows the one before it",
    17: "a hold ends at most once, with no more than was held, in time",
    18: "a reversal takes back one transfer, whole; none has two",
    19: "what was forgotten can't be read, and no other key is lost",
    20: "each group is the sum of its shares",
}


@dataclass(slots=True)
class Faults:
    """The violations of one invariant: how many, and the first few in words."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what[:_LONGEST])


@dataclass(frozen=True, slots=True)
class Verdict:
    """One invariant. `holds` is None when it could not be judged; `figure` is what it stands on."""

    number: int
    title: str
    holds: bool | None
    figure: str
    violations: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckFigures:
    """How much was read. Lag: events that are stored and not in a document yet."""

    accounts: int
    events: int
    transfers: int
    documents: int
    lag_documents: int
    lag_events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """`strays`: invalid documents in the collection `events`. Readers ignore them, so they violate
    no invariant. The field keeps its name, for it is part of the JSON report."""

    verdicts: tuple[Verdict, ...]
    figures: CheckFigures
    strays: InvalidDocuments = NONE

    @property
    def holds(self) -> bool:
        return all(verdict.holds is not False for verdict in self.verdicts)

    @property
    def violated(self) -> list[int]:
        """The numbers of the invariants that do not hold."""
        return [verdict.number for verdict in self.verdicts if verdict.holds is False]

    def as_json(self) -> dict[str, Any]:
        return {"holds": self.holds, **asdict(self)}


def verdict(number: int, faults: Faults, figure: str, title: str = "") -> Verdict:
    """The verdict on an invariant that could be judged; `title`: of one that is not in `TITLES`."""
    title = title or TITLES[number]
    return Verdict(number, title, not faults.count, figure, faults.count, tuple(faults.examples))
