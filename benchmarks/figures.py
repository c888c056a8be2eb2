"""What a measure comes to: figures with their rounds, spreads with their samples, ratios; pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number for each round; what counts is their median."""

    name: str
    unit: str
    rounds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def json(self) -> dict[str, Any]:
        rounds = [round(each, 3) for each in self.rounds]
        return {"unit": self.unit, "median": round(self.median, 3), "rounds": rounds}


@dataclass(frozen=True, slots=True)
class Spread:
    """Samples of all rounds together, in milliseconds."""

    name: str
    samples: Sequence[float]

    def percentile(self, percent: float) -> float:
        """The smallest sample that so many per cent of all do not exceed."""
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

    def json(self) -> dict[str, Any]:
        told = {f"p{percent:g}": round(self.percentile(percent), 2) for percent in PERCENTILES}
        samples = sorted(round(each, 2) for each in self.samples)
        return {"unit": "ms", "count": len(samples), **told, "samples": samples}


@dataclass(frozen=True, slots=True)
class Ratio:
    """How one figure compares with another, and the goal: at least that, or with `most` at most."""

    name: str
    value: float
    goal: float | None = None
    most: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal

    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"value": round(self.value, 3)}
        if self.goal is not None:
            told |= {"goal": self.goal, "at": "most" if self.most else "least", "met": self.met}
        return told


@dataclass(slots=True)
class Result:
    """All that one measure found. `notes` are for people: what was left out, where it saturates."""

    figures: list[Figure] = field(default_factory=list)
    spreads: list[Spread] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    before: "Result | None" = None
    """What the same measure, in turns with this one, found of another checkout."""

    def add(self, name: str, unit: str, rounds: Sequence[float]) -> Figure:
        """Note a figure, and return it."""
        self.figures.append(Figure(name, unit, rounds))
        return self.figures[-1]

    def compare(
        self,
        name: str,
        one: Figure,
        other: Figure,
        goal: float | None = None,
        *,
        most: bool = False,
    ) -> Ratio:
        """Note how the median of one figure compares with that of another."""
        self.ratios.append(Ratio(name, one.median / other.median, goal, most))
        return self.ratios[-1]

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(each for each in self.figures if each.name == name)

    def json(self) -> dict[str, Any]:
        told = {
            "figures": {each.name: each.json() for each in self.figures},
            "spreads": {each.name: each.json() for each in self.spreads},
            "ratios": {each.name: each.json() for each in self.ratios},
            "notes": self.notes,
        }
        return told if self.before is None else {**told, "before": self.before.json()}
