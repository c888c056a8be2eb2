"""What readers of a bank see while its servers fail over, and for how long they see nothing new."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from ulid import ULID

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import StoreUnavailable
from pipeline.model.events import new_event
from tests.gaps import longest_gap
from tests.harness import eventually
from tests.load import Appends
from tests.services import Client

_HERTZ: Final = 40
_UNAVAILABLE: Final = 503


class Gaps:
    """The times between marks, by the monotonic clock."""

    def __init__(self) -> None:
        self._marks = [time.monotonic()]

    def mark(self) -> None:
        self._marks.append(time.monotonic())

    @property
    def longest(self) -> float:
        """In seconds."""
        first, *later = self._marks
        return longest_gap(later, first).seconds if later else 0.0

    def beyond(self, moment: float) -> float:
        """Seconds from that moment to the mark after it."""
        return next((mark - moment for mark in self._marks if mark >= moment), 0.0)


class Watch:
    """The highest version that was read of each account on a route, the reads that were behind it,
    and gaps: between two answers, and between two answers with something new.

    503 is no answer; any other error is a breach.
    """

    def __init__(self) -> None:
        self.back: list[str] = []
        self.refused = 0
        self._seen: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """Forget the gaps."""
        self.answers, self.news = Gaps(), Gaps()

    def version(self, account: str) -> int:
        return self._seen.get(account, 0)

    async def read(self, client: Client, path: str) -> None:
        async with client.get(path) as answer:
            if answer.status == _UNAVAILABLE:
                self.refused += 1
                return
            body = await answer.json()
            if answer.status != 200:
                self.back.append(f"{path}: {answer.status} {body}")
                return
        self.answers.mark()
        documents = body.get("data", [body])
        if any(self.version(each["id"]) < each["version"] for each in documents):
            self.news.mark()
        for each in documents:
            self._note(each)

    def _note(self, document: dict[str, Any]) -> None:
        account, version, before = document["id"], document["version"], self.version(document["id"])
        if version < before:
            self.back.append(f"{account}: {version} after {before}")
        self._seen[account] = max(version, before)


class Busy:
    """An account to which something happens all the time."""

    def __init__(self, store: Appends) -> None:
        self._store, self.account, self.version = store, str(ULID()), 0

    async def next(self) -> None:
        """One more event, repeated until it is acknowledged."""
        self.version += 1
        event = new_event(self.account, self.version, DEPOSITED, {"money": 1})
        if self.version == 1:
            event = new_event(self.account, 1, CREATED, {"owner": "Ada", "money": 1000})
        while True:
            try:
                return await self._store.append(event)
            except StoreUnavailable:
                await asyncio.sleep(0.1)


class Readers:
    """Readers of one account, which changes all the time, and of a list that has it."""

    def __init__(self, client: Client, busy: Busy) -> None:
        self._client, self._busy = client, busy
        self.by_id, self.searches, self.lists = Watch(), Watch(), Watch()
        self._all = (self.by_id, self.searches, self.lists)

    @property
    def back(self) -> list[str]:
        """What must not have been seen."""
        return [each for watch in self._all for each in watch.back]

    def begin(self) -> None:
        """Forget all gaps."""
        for watch in self._all:
            watch.begin()

    async def caught_up(self, seconds: float = 600) -> None:
        """Wait until each route has shown what is acknowledged now."""
        wanted = self._busy.version

        def shown() -> bool:
            return all(watch.version(self._busy.account) >= wanted for watch in self._all)

        await eventually(shown, seconds=seconds, message=f"version {wanted} is shown")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read, and change the account, while the block runs; ends with the last answers."""
        account, stop = self._busy.account, asyncio.Event()

        async def for_ever(call: Callable[[], Any]) -> None:
            while not stop.is_set():
                await call()
                await asyncio.sleep(1 / _HERTZ)

        calls: list[Callable[[], Any]] = [
            self._busy.next,
            lambda: self.by_id.read(self._client, f"/{account}"),
            lambda: self.searches.read(self._client, f"/?search={account}"),
            lambda: self.lists.read(self._client, "/?sort=-updated_at&limit=50"),
        ]
        tasks = [asyncio.create_task(for_ever(call)) for call in calls]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)


def recovery(fault: str, begun: float, ready: float, readers: Readers) -> str:
    """In words, what the readers saw since the fault was `begun`, the servers being at work again
    since `ready`; both by the monotonic clock."""
    by_id, searches = readers.by_id, readers.searches
    times = {
        "servers": ready - begun,
        "no read by id": by_id.answers.longest,
        "no search": searches.answers.longest,
        "nothing new": by_id.news.longest,
        "of it after the servers": by_id.news.beyond(ready),
    }
    shown = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in times.items())
    return f"recovery: {fault}: {shown}"
