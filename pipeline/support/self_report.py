"""What a process of a role says of itself to whoever asks: how it fares, and what it has done.

The role hands in its checks and its counters. Questions and answers travel over NATS
(`messaging/instances.py`), also between releases: an `Answer` keeps its fields.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ulid import ULID

from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached
from pipeline.support.metrics import SECONDS
from pipeline.support.readiness import Checks, Readiness, readiness

_FRESH_SECONDS: Final = 4.0
"""An answer has what the readiness checks found, which are made again after so long."""
_MOST_NAMES: Final = 500
"""An answer has so many counters; the rest is summed up. Who asks takes twice as many."""
_OTHER: Final = "other"

_Short = Annotated[str, Field(max_length=200)]
_Total = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Answer:
    """What an instance says of itself.

    `id`: of this life of its process. `missing`: what it waits for, with the reasons, as `/readyz`
    says; None while the checks are made for the first time. `done`, `durations`: see `Work`.
    """

    id: Annotated[str, Field(max_length=26)]
    role: Annotated[str, Field(pattern="^(accounts|balances|forwarder|worker)$")]
    name: _Short
    missing: Annotated[dict[_Short, str], Field(max_length=100)] | None
    warnings: Annotated[dict[_Short, str], Field(max_length=100)]
    done: Annotated[dict[_Short, _Total], Field(max_length=2 * _MOST_NAMES)]
    durations: Annotated[list[_Total], Field(max_length=len(SECONDS) + 1)]


_CHECKED: Final = TypeAdapter(Answer)


def answer_of(data: bytes) -> Answer | None:
    """The answer in a message; None if it is none."""
    try:
        return _CHECKED.validate_json(data)
    except ValidationError:
        return None


@plain_dataclass(frozen=True, slots=True)
class Work:
    """What a role has done since its start, read whenever it is asked.

    `done`: commands by outcome, events of a worker by projection; what is of one kind, by "".
    `durations`: how many commands took at most as long as each of `SECONDS`, and how many there
    were; empty for a role that takes none.
    """

    done: Callable[[], Mapping[str, float]]
    durations: Callable[[], Sequence[float]] = list


def process_name() -> str:
    """Of this process, for people: its host and its id."""
    return f"{socket.gethostname()}-{os.getpid()}"


class SelfReport:
    """`name`: shown to people; by default `process_name`."""

    def __init__(self, role: str, work: Work, checks: Checks, name: str | None = None) -> None:
        self.id, self.name = str(ULID()), name or process_name()
        self._role, self._work, self._checks = role, work, checks
        self._readiness: Readiness | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_again = 0.0

    def answer(self) -> Answer:
        """What is known now: an answer does not wait for the checks."""
        self._look()
        found = self._readiness
        return Answer(
            self.id,
            self._role,
            self.name,
            found and found.missing,
            found.warnings if found else {},
            _bounded(self._work.done()),
            list(self._work.durations()),
        )

    async def close(self) -> None:
        if self._looking is not None:
            await cancel_and_wait(self._looking)

    def _look(self) -> None:
        """Have the checks made, unless that was a moment ago."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_again and (self._looking is None or self._looking.done()):
            self._looking = detached(self._check())

    async def _check(self) -> None:
        self._readiness = await readiness(self._checks)
        self._look_again = asyncio.get_running_loop().time() + _FRESH_SECONDS


def _bounded(done: Mapping[str, float]) -> dict[str, float]:
    if len(done) <= _MOST_NAMES:
        return dict(done)
    ordered = sorted(done.items(), key=lambda each: each[1], reverse=True)
    kept, rest = ordered[: _MOST_NAMES - 1], ordered[_MOST_NAMES - 1 :]
    return {**dict(kept), _OTHER: sum(number for _, number in rest)}
