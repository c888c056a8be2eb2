"""Invariants seen broken: by whom while it runs, or by the checker at the end."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

INVARIANTS: Final = {
    1: "the balances add up to deposits minus withdrawals; a transfer nets to zero",
    2: "versions of an account are 1…n, no gap, no duplicate",
    3: "every acknowledged command's events exist; no rejected command left any",
    4: "each document equals the fold of its events, none is missing or extra",
    5: "no balance is below zero at any prefix of its events",
    6: "the version that a reader sees never goes back, no account goes missing",
    7: "a read with min_version never answers as fresh with less",
    8: "one idempotency key, one effect, one answer",
    9: "an owner with an old epoch moves no checkpoint",
    10: "a rebuilt generation equals the live one",
    11: "the log has each event once, an account's in order and without a gap",
    12: "no role ends by itself; all come back to work",
    13: "what is relied on in a server is as it should be: indexes, aliases, replicas",
    16: "each event has its own hash and that of the one before it",
    17: "a hold ends at most once, whole and in time; no deadline comes twice",
    18: "a reversal takes back one transfer, whole; none has two",
    19: "what was forgotten is nowhere, and its key is gone",
    20: "each group adds up to its accounts' events, every account once",
}
"""The ten of the design, three that stand on the rest of it, and the chain, holds, reversals,
forgetting and groups (`bank verify` has the same numbers)."""


class Breach(NamedTuple):
    """`seconds` since the run began; `live` if it was seen before the end."""

    number: int
    what: str
    seconds: float
    live: bool


@dataclass
class Breaches:
    """All that was found, and how often each invariant was put to the test."""

    found: list[Breach] = field(default_factory=list)
    checked: dict[int, int] = field(default_factory=lambda: dict.fromkeys(INVARIANTS, 0))
    live: bool = True
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)

    def looked(self, number: int, times: int = 1) -> None:
        self.checked[number] += times

    def add(self, number: int, what: str) -> None:
        self.found.append(Breach(number, what, time.monotonic() - self.began, self.live))
        self.broken.set()

    def judge(self, number: int, holds: bool, what: str) -> None:
        """Look once; `what` says what is wrong if it does not hold."""
        self.looked(number)
        if not holds:
            self.add(number, what)

    def of(self, number: int) -> list[Breach]:
        return [each for each in self.found if each.number == number]
