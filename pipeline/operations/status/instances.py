"""Which instances of each role answer, which do not, and which have ended; and the commands.

An instance tells how it fares when it is asked (`messaging/instances.py`). One that said goodbye
has ended. One that answered before and leaves two questions unanswered for some seconds does not
answer: it is frozen, was killed or is cut off. While NATS carries nothing, nothing is known.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from pipeline.coordination.partition_leases import REMEMBERED
from pipeline.messaging import JetStream
from pipeline.messaging.instances import Questions
from pipeline.operations.status.commands import Commands, LastMinute, Totals, commands
from pipeline.operations.status.probe import Unknown, why
from pipeline.operations.status.rate import Rate
from pipeline.support.logs import moment
from pipeline.support.readiness import worded
from pipeline.support.self_report import Answer

InstanceState = Literal["ready", "waiting", "silent", "ended", "unknown"]

SILENT_SECONDS: Final = 3.0
"""Two questions must be unanswered for so long: less than a lease, and more than a usual pause."""
_RECONNECT_SECONDS: Final = 10.0
"""So long after an outage of NATS, an instance may not have connected again."""
_GATHER_SECONDS: Final = 0.3
"""A reading waits for answers for so long at most; later ones count in the next reading."""
_MOST: Final = 500

NO_ANSWERS: Final = Unknown("NATS carries no answers")
FIRST: Final = "they were asked for the first time just now"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a role. `ready`: it has all it needs; `waiting`: it answers, and `detail` says
    what it waits for; `silent`: it does not answer, and has not said that it ends; `ended`: it has;
    `unknown`: NATS can't tell, or it has just started.

    `since` and `seen`: the RFC 3339 times of its first and its last answer. `rate`: commands,
    requests or events a second, by its role. `detail` of one that is ready has its warnings.
    """

    role: str
    name: str
    state: InstanceState
    detail: str | None
    since: str
    seen: str
    rate: float | None


@dataclass(slots=True)
class _Known:
    """What is remembered of an instance. `first` and `at`: of its first and its last answer; `born`
    and `seen` are the same in seconds since 1970, where other times are the clock's."""

    answer: Answer
    first: float
    at: float = 0.0
    born: float = field(default_factory=time.time)
    seen: float = 0.0
    rate_now: float | None = None
    unanswered: int = 0
    since: float = 0.0
    ended: bool = False
    rate: Rate = field(default_factory=Rate)
    minute: LastMinute = field(default_factory=LastMinute)


class Instances:
    """Remembers who answered before, for some minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._questions: Questions | None = None
        self._heard = self._trusted_from = clock()
        self._first_heard: float | None = None
        self._first_asked: float | None = None
        self._complete = asyncio.Event()

    async def ask(self, js: JetStream) -> None:
        """Ask all, and wait a moment for those who are known."""
        if self._questions is None:
            questions = Questions(js, self.answered, self.ended)
            await questions.open()
            self._questions = questions
        begins = not self._known
        self.asked()
        await self._questions.ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                # At first nobody is known, and whoever answers first is not all.
                await (asyncio.Event() if begins else self._complete).wait()

    def asked(self) -> None:
        """All were asked."""
        self._complete.clear()
        self._first_asked = self._first_asked or self._clock()
        for each in self._known.values():
            each.since = each.since if each.unanswered else self._clock()
            each.unanswered += 1

    def answered(self, answer: Answer) -> None:
        """An instance answered."""
        now = self._heard = self._clock()
        self._first_heard = self._first_heard or now
        known = self._known.get(answer.id) or self._new(answer, now)
        if known is None or known.ended:
            return
        known.answer, known.at, known.seen = answer, now, time.time()
        known.unanswered = 0
        known.rate_now = known.rate.after(int(sum(answer.done.values())), now)
        known.minute.note(now, Totals(answer.done, answer.durations))
        if not any(each.unanswered in (1, 2) and not each.ended for each in self._known.values()):
            self._complete.set()

    def ended(self, instance: str) -> None:
        """It said goodbye."""
        if (known := self._known.get(instance)) is not None:
            known.ended, known.seen = True, time.time()

    def read(self, asked: object) -> tuple[list[Instance], str | None]:
        """All instances by role and name, and why it is not known which of them answer; None if it
        is known. `asked`: `Unknown` if NATS could not be asked."""
        now = self._clock()
        if isinstance(asked, Unknown):
            # Silence means nothing until all had the time to connect again.
            self._trusted_from = now + _RECONNECT_SECONDS
            for each in self._known.values():
                each.unanswered = 0
        elif self._unheard(now):
            asked = NO_ANSWERS  # who asks is one of them, and was not even heard itself
        for key, each in list(self._known.items()):
            if each.at < now - REMEMBERED or self._replaced(each):
                del self._known[key]
        unknown = why(asked)
        found = [self._shown(each, unknown, now) for each in self._known.values()]
        if unknown is None and now - (self._first_heard or now) < SILENT_SECONDS:
            unknown = FIRST  # others may answer yet
        return sorted(found, key=lambda each: (each.role, each.name)), unknown

    def commands(self, unknown: str | None) -> Commands:
        """What the account services were asked to do. `unknown`: as `read` returned it."""
        services = [each for each in self._known.values() if each.answer.role == "accounts"]
        now = self._clock()
        alive = (each.rate_now for each in services if now - each.at < SILENT_SECONDS)
        return commands((each.minute.risen(now) for each in services), alive, unknown)

    def _new(self, answer: Answer, now: float) -> _Known | None:
        if len(self._known) >= _MOST:
            return None
        return self._known.setdefault(answer.id, _Known(answer, now))

    def _replaced(self, known: _Known) -> bool:
        """Whether a process that began again under the name of this one took its place. Two that
        run at the same time may have one name, too: both answer."""
        quiet = known.ended or known.unanswered >= 2
        return quiet and any(
            (each.answer.role, each.answer.name) == (known.answer.role, known.answer.name)
            and each.first > known.at
            for each in self._known.values()
        )

    def _unheard(self, now: float) -> bool:
        """Whether questions were asked for some seconds, and nobody answered."""
        if self._first_heard is None:
            return self._first_asked is not None and now - self._first_asked >= SILENT_SECONDS
        return bool(self._known) and now - self._heard >= SILENT_SECONDS

    def _shown(self, known: _Known, unknown: str | None, now: float) -> Instance:
        answer, state = known.answer, self._state(known, unknown, now)
        told = worded("Waiting for", answer.missing) if answer.missing else ""
        detail = told or "; ".join(answer.warnings.values()) or None
        works = state in ("ready", "waiting")
        return Instance(
            answer.role,
            answer.name,
            state,
            detail if works else None,
            moment(known.born),
            moment(known.seen),
            known.rate_now if works else None,
        )

    def _state(self, known: _Known, unknown: str | None, now: float) -> InstanceState:
        if known.ended:
            return "ended"
        if unknown is not None:
            return "unknown"
        if known.unanswered >= 2 and now - known.since >= SILENT_SECONDS:
            return "silent" if now >= self._trusted_from else "unknown"
        if known.answer.missing is None:  # it makes its checks for the first time
            return "unknown"
        return "waiting" if known.answer.missing else "ready"
