"""Which fault begins when and how long it lasts: a pure function of seed, minutes and names."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_FIRST: Final = 2.0


class Pace(NamedTuple):
    """The least and the most seconds from one fault's beginning to the next one's, and from its
    beginning to its end."""

    gap: tuple[float, float]
    length: tuple[float, float]


QUICK: Final = Pace((1.5, 5.0), (1.0, 7.0))
CALM: Final = Pace((3.0, 9.0), (3.0, 14.0))
"""Where servers need some time to be in sync again."""


class Step(NamedTuple):
    """A fault from `begin` to `end`, in seconds since the nemesis set out.

    `seed` is what the fault draws its own choices from: whom it hits, how hard.
    """

    begin: float
    end: float
    fault: str
    seed: int

    def __str__(self) -> str:
        return f"{self.begin:6.1f} s to {self.end:6.1f} s  {self.fault}"


def schedule(seed: int, minutes: float, names: Sequence[str], pace: Pace = QUICK) -> list[Step]:
    """The steps in order of their beginning; none ends after the time. They may overlap.

    Every name comes once before any comes again, so a long run leaves no fault out. The order in
    which the names are given does not matter.
    """
    chance, over = random.Random(f"torture {seed}"), 60 * minutes
    steps: list[Step] = []
    at = _FIRST
    for name in _dealt(chance, sorted(set(names))):
        end = at + chance.uniform(*pace.length)
        if end > over:
            break
        steps.append(Step(round(at, 1), round(end, 1), name, chance.randrange(2**32)))
        at += chance.uniform(*pace.gap)
    return steps


def _dealt(chance: random.Random, names: list[str]) -> Iterator[str]:
    while names:
        yield from chance.sample(names, len(names))
