"""Is what was forgotten out of reach, and can all else be read (invariant 19)?"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pipeline.model.aggregate import Aggregate
from pipeline.model.derived import is_opened
from pipeline.model.events import Event
from pipeline.model.personal import Subject, is_encrypted
from pipeline.operations.checker.report import Faults, Verdict, verdict
from pipeline.operations.recheck import CHUNK

_PAUSE: Final = 0.2


class Keys(Protocol):
    """The keys of personal fields; see `SubjectKeys`."""

    async def find(self, subjects: Collection[str], /) -> dict[str, Subject]: ...


class Store(Protocol):
    """The event store, as far as it is read here."""

    @property
    def keys(self) -> Keys: ...

    async def load(self, account_id: str, /) -> list[Event]: ...


@dataclass(slots=True)
class _Subject:
    """An account: the version of its last forgetting, how many of its events are encrypted, and
    what is wrong with one of them."""

    id: str
    since: int = 0
    encrypted: int = 0
    fault: str = ""

    def enter(self, event: Event, kinds: Collection[str]) -> None:
        version = event["version"]
        if str(event.get("kind")) in kinds:
            self.since = version
        elif is_encrypted(event):
            self.encrypted += 1
            about: Any = event["encrypted"]
            if not is_opened(event):
                self.fault = f"version {version}: its key is lost, or somebody has changed it"
            elif about["since"] != self.since:
                self.fault = f"version {version}: its key is one of before version {self.since}"


class ForgottenSubjects:
    """Follows all events, account by account, and compares the keys of those that were forgotten.

    `aggregates`: those whose events they are.
    """

    def __init__(self, store: Store, aggregates: Iterable[Aggregate[Any, Any]]) -> None:
        self.faults, self.encrypted, self.forgotten = Faults(), 0, 0
        self._store = store
        self._kinds = {each.forgotten for each in aggregates if each.forgotten}
        self._doubtful: list[_Subject] = []
        self._chunk: list[_Subject] = []

    async def follow(self, replay: AsyncIterator[list[Event]]) -> AsyncIterator[list[Event]]:
        """The same lists."""
        subject = _Subject("")
        async for events in replay:
            for event in events:
                if event["account_id"] != subject.id:
                    await self._end(subject)
                    subject = _Subject(event["account_id"])
                subject.enter(event, self._kinds)
            yield events
        await self._end(subject)
        await self._compare()

    async def verdict(self, patience: float) -> Verdict:
        """To be called when all is read. For so many seconds what is wrong may still come right:
        somebody may be forgotten just now."""
        deadline = time.monotonic() + patience
        while self._doubtful and time.monotonic() < deadline:
            await asyncio.sleep(_PAUSE)
            self._chunk, self._doubtful = [await self._again(e.id) for e in self._doubtful], []
            await self._compare()
        for each in self._doubtful:
            self.faults.add(f"account {each.id}, {each.fault}")
        figure = f"{self.encrypted:,} events encrypted, {self.forgotten:,} accounts forgotten"
        return verdict(19, self.faults, figure)

    async def _end(self, subject: _Subject) -> None:
        """The account is read."""
        self.encrypted += subject.encrypted
        self.forgotten += subject.since > 0
        if subject.since or subject.fault:
            self._chunk.append(subject)
        if len(self._chunk) == CHUNK:
            await self._compare()

    async def _compare(self) -> None:
        """With the keys, read after the events."""
        chunk, self._chunk = self._chunk, []
        keys = await self._store.keys.find([each.id for each in chunk]) if chunk else {}
        for each in chunk:
            there = keys.get(each.id)
            if there is not None and any(since < each.since for since in there.keys):
                each.fault = f"forgotten at version {each.since}: its key is there (bank forget)"
            if each.fault:
                self._doubtful.append(each)

    async def _again(self, account_id: str) -> _Subject:
        subject = _Subject(account_id)
        for event in await self._store.load(account_id):
            subject.enter(event, self._kinds)
        return subject
