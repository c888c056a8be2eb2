"""Which servers answer, by more than one look: a late answer alone does not make one down."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.operations.status.probe import Unknown

ServerState = Literal["up", "slow", "silent", "down"]

_LOOKS: Final = 2
"""So many looks one after another must get no answer before a server is called silent or down."""

_JUST_NOW: Final = 2.0
"""Seconds before a look in which an answer to somebody else counts as one to it."""


@dataclass(frozen=True, slots=True)
class Server:
    """`slow`: the last look got no answer. No look did for some seconds: `silent`, it is late each
    time: overloaded, frozen or cut off; `down`: nobody listens there. `up`: `up` or `slow`.
    `detail`: what the server did instead, and which question it left unanswered while it is up."""

    name: str
    up: bool
    state: ServerState
    detail: str | None


class Verdicts:
    """Remembers the looks that failed. `proofs`: for servers by name, when somebody else got an
    answer of them, on the clock that `began` is of."""

    def __init__(self, proofs: dict[str, Callable[[], float]] | None = None) -> None:
        self._failed = Counter[str]()
        self._away = set[str]()
        self._proofs = proofs or {}

    def judge(self, name: str, began: float, *answers: object) -> Server:
        """The server, by its answers to a look that began then."""
        failed = [each for each in answers if isinstance(each, Unknown) and each.server]
        if len(failed) < len(answers):
            self._forget(name)
            return Server(name, True, "up", failed[0].why if failed else None)
        if self._proofs.get(name, _never)() >= began - _JUST_NOW:
            self._forget(name)
        else:
            self._failed[name] += 1
        if any(each.away for each in failed):
            self._away.add(name)  # also if the next look is over before the driver knows
        state: ServerState = "slow"
        if self._failed[name] >= _LOOKS:
            state = "down" if name in self._away else "silent"
        return Server(name, state == "slow", state, failed[0].why)

    def _forget(self, name: str) -> None:
        self._failed[name] = 0
        self._away.discard(name)


def _never() -> float:
    return -math.inf
