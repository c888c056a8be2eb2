"""Reads that wait for a version: one task reads Elasticsearch for all of them.

Workers send a notification after each batch that they write; then the documents of that partition
are read for which a request waits. Notifications may be lost, so all documents that are waited for
are also read four times a second.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from api.balances.connections import Connections
from api.balances.queries import Document, document
from pipeline.messaging.notifications import notifications_of, partition_in
from pipeline.model.events import partition_of, slot_of
from pipeline.model.projection import Projection
from pipeline.search import ProjectionUnavailable
from pipeline.search.reader import DocumentReader
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached

log = logging.getLogger(__name__)

EVERY: Final = 0.25
"""Seconds between two readings of all documents that are waited for."""
SPACING: Final = 0.01
"""Seconds between two readings at least, however often a notification comes."""
MOST: Final = 1000
"""Documents in one request."""


@dataclass(eq=False, slots=True)
class _Waiter:
    account_id: str
    version: int
    found: asyncio.Future[Document] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def offer(self, document: Document) -> None:
        if not self.found.done() and has(document, self.version):
            self.found.set_result(document)


def has(document: Document, version: int) -> bool:
    """Whether the document is at that version or a later one. In a document that was changed by
    hand the version may be of any type."""
    there = document.get("version")
    return isinstance(there, int) and there >= version


class VersionWaits:
    """The waiting reads of one service and one projection."""

    def __init__(
        self, index: DocumentReader, projection: Projection, connections: Connections
    ) -> None:
        self._index, self._projection, self._connections = index, projection, connections
        self._waiters: set[_Waiter] = set()
        self._new: set[_Waiter] = set()
        self._notified: set[tuple[int, int]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[Subscription] | None = None

    async def document(
        self, account_id: str, version: int, seconds: float
    ) -> tuple[Document, bool]:
        """The document at that version or a later one, and True; after the time the document as it
        is, and False.

        Raises `DocumentNotFound` if there is none after the time, and `ProjectionUnavailable`.
        """
        with suppress(Exception):  # the read after the time raises it, if it lasts
            there = await document(self._index, account_id)
            if has(there, version):
                return there, True
        waiter = _Waiter(account_id, version)
        self._enter(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter.found, True
        except TimeoutError:
            there = await document(self._index, account_id)
            return there, has(there, version)
        finally:
            self._waiters.discard(waiter)
            self._new.discard(waiter)

    async def close(self) -> None:
        for task in (self._task, self._listening):
            if task is not None:
                await cancel_and_wait(task)

    def _enter(self, waiter: _Waiter) -> None:
        self._waiters.add(waiter)
        self._new.add(waiter)
        self._wake.set()
        if self._listening is None or (self._listening.done() and self._listening.exception()):
            self._listening = detached(self._listen())
        if self._task is None or self._task.done():
            self._task = detached(self._run())

    async def _listen(self) -> Subscription:
        js = await self._connections.connected()
        return await js.nc.subscribe(notifications_of(self._projection), cb=self._on_notification)

    async def _on_notification(self, message: Msg) -> None:
        if self._waiters:
            with suppress(ValueError):
                self._notified.add(partition_in(message.subject))
                self._wake.set()

    async def _run(self) -> None:
        """Read as long as a request waits."""
        fetched = 0.0
        while self._waiters:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, fetched + EVERY - time.monotonic())):
                    await self._wake.wait()
            if time.monotonic() - fetched >= EVERY:
                due, fetched = set(self._waiters), time.monotonic()
            else:
                due = self._new | {each for each in self._waiters if self._is_notified(each)}
            self._wake.clear()
            self._new.clear()
            self._notified.clear()
            await self._fetch(due)
            await asyncio.sleep(SPACING)

    def _is_notified(self, waiter: _Waiter) -> bool:
        slot = slot_of(self._projection.account_id(waiter.account_id))
        return any(partition_of(slot, of) == partition for partition, of in self._notified)

    async def _fetch(self, due: Iterable[_Waiter]) -> None:
        by_account: dict[str, list[_Waiter]] = {}
        for waiter in due:
            by_account.setdefault(waiter.account_id, []).append(waiter)
        ids = list(by_account)
        for chunk in (ids[i : i + MOST] for i in range(0, len(ids), MOST)):
            try:
                found = await self._index.many(chunk)
            except ProjectionUnavailable as error:
                log.debug("reading for waiting requests: %s", error)
                return
            for account_id, there in found.items():
                for waiter in by_account[account_id]:
                    waiter.offer(there)


WAITING: Final = web.AppKey("waiting", VersionWaits)
