"""Steady writes into the event store, with versions held here: one writer for an account."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from ulid import ULID

from pipeline.banking.events import CREATED, DEPOSITED, FROZEN, OWNER_UPDATED, UNFROZEN, WITHDRAWN
from pipeline.eventstore import StoreUnavailable
from pipeline.model.events import Event, new_event
from tests.harness import eventually


class Appends(Protocol):
    """What the load needs of the event store."""

    async def append(self, event: Event) -> None: ...


class Load:
    """Accounts and what was acknowledged of them. A write whose outcome is unknown is repeated."""

    def __init__(self, store: Appends, seed: int = 1) -> None:
        self.store = store
        self.acknowledged = 0
        self._random = random.Random(seed)
        self._versions: dict[str, int] = {}
        self._frozen: set[str] = set()
        self._busy: set[str] = set()

    async def write(self, count: int) -> None:
        """Append that many events at once, of as many accounts."""
        self._busy.clear()
        events = [self._next() for _ in range(count)]
        await asyncio.gather(*(self._append(event) for event in events))

    @asynccontextmanager
    async def steady(self, rate: int = 300) -> AsyncIterator[None]:
        """Write about so many events a second while the block runs."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(rate, stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _run(self, rate: int, stop: asyncio.Event) -> None:
        started, base = time.monotonic(), self.acknowledged
        while not stop.is_set():
            await self.write(15)
            ahead = (self.acknowledged - base) / rate - (time.monotonic() - started)
            await asyncio.sleep(max(0.0, ahead))

    async def _append(self, event: Event) -> None:
        while True:
            try:
                await self.store.append(event)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
        self.acknowledged += 1

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        target = self.acknowledged + count
        await eventually(lambda: self.acknowledged >= target, seconds=60, message=f"{count} more")

    def _next(self) -> Event:
        free = self._versions.keys() - self._busy
        if len(free) < 30 or self._random.random() < 0.1:
            account_id = str(ULID())
            self._versions[account_id] = 1
            self._busy.add(account_id)
            return new_event(account_id, 1, CREATED, {"owner": "Ada", "money": 1000})
        account_id = self._random.choice(sorted(free))
        self._busy.add(account_id)
        self._versions[account_id] += 1
        version, kind = self._versions[account_id], self._random.choice((DEPOSITED, WITHDRAWN))
        if account_id in self._frozen:
            self._frozen.remove(account_id)
            return new_event(account_id, version, UNFROZEN, {})
        if self._random.random() < 0.03:
            self._frozen.add(account_id)
            event = new_event(account_id, version, FROZEN, {"reason": "asked for"})
            return event if self._random.random() < 0.5 else {**event, "schema": 1, "body": {}}
        if self._random.random() < 0.1:
            return new_event(account_id, version, OWNER_UPDATED, {"owner": f"Ada {version}"})
        return new_event(account_id, version, kind, {"money": self._random.randint(1, 5)})
