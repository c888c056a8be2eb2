"""Which partitions this worker owns: a fair share of them, by leases. The bridge's `Assignment`.

The keeper sends a heartbeat several times within a lease: it renews the leases we hold, acquires
free ones up to our share, and notes which ones are lost or surplus. The mover applies that: it
drops lost partitions at once, and releases a surplus lease only after its partition is drained.
A worker that comes, leaves, acquires or releases announces that, and the others send a heartbeat at
once. Leases only decide who works; fences elsewhere keep a late owner from doing harm.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext, suppress
from typing import Final

from pipeline.bridge import Assign
from pipeline.coordination.fair_share import fair_change
from pipeline.coordination.leases import LeaseUnavailable
from pipeline.coordination.partition_leases import PartitionLeases, View
from pipeline.messaging import JetStream
from pipeline.messaging.news import News, announce, news_of
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

RENEWED: Final = 0.24
"""A lease is renewed after this part of it; a tick may be a quarter later (`to_tick`)."""
LONGEST_BEAT: Final = 0.25
"""Seconds between two heartbeats while the shares are not fair."""
_CALM_PART: Final = 0.1
_CALM_BEAT: Final = 1.0
"""The part of a lease, and the most seconds, between two while they are: so late after its lease's
end a dead worker may be replaced. What the living do is announced."""
_PAUSE: Final = 0.02
"""Seconds between two heartbeats, however often others announce a change."""
_LEASES: Final = "leases"
"""What is announced."""
LEAVING_SECONDS: Final = 6.0
"""How long `leave` waits for the partitions to drain."""

LastOwner = Callable[[int], Awaitable[str | None]]
"""Returns who raised a partition's epoch last; called only while Redis is down."""


class Ownership:
    """One worker's share of the partitions, while `run` runs."""

    def __init__(self, leases: PartitionLeases, last_owner: LastOwner | None = None) -> None:
        self.leases, self.last_owner = leases, last_owner
        self.js: JetStream | None = None
        """Carries the announcements, if it is set before `keep`."""
        self.rebalances = 0
        self._beat = min(LONGEST_BEAT, RENEWED * leases.seconds)
        self._calm_beat = max(self._beat, min(_CALM_BEAT, _CALM_PART * leases.seconds))
        self._partitions = 0
        self._until: dict[int, float] = {}  # the leases we hold, and their ends by our own clock
        self._surplus: frozenset[int] = frozenset()
        self._lost: frozenset[int] = frozenset()
        self._share: frozenset[int] = frozenset()  # the partitions that Faust may have
        self._assigned = True  # whether Faust has exactly those
        self._fair = False  # whether the last heartbeat found nothing to acquire or to release
        self._began = ""
        self._waits_until = 0.0
        self._blind_since: float | None = None
        self._checked = time.monotonic()
        self._running = self._leaving = self._ending = False
        self._changed, self._left = asyncio.Event(), asyncio.Event()
        self._redis = asyncio.Lock()

    @property
    def held(self) -> frozenset[int]:
        """The partitions whose leases we hold."""
        return frozenset(self._until)

    @property
    def known(self) -> bool:
        """Whether Redis answered the last time, so that the owners of all leases are known."""
        return self._began != "" and self._blind_since is None

    @property
    def leaving(self) -> bool:
        """Whether `leave` was called."""
        return self._leaving

    @property
    def settled(self) -> bool:
        """Whether our share is fair, and Faust has exactly the partitions whose leases we hold."""
        return self._running and self._fair and self._assigned and self._share == self.held

    # ---------------------------------------------------------------- what the bridge calls

    async def run(self, assign: Assign, partitions: int) -> None:
        """Keep a share until cancelled."""
        try:
            await self.keep(assign, partitions)
        finally:
            await self.resign()
        await asyncio.Event().wait()

    async def keep(self, assign: Assign, partitions: int) -> None:
        """Keep a share until `leave` or `release_all`; may be called again then."""
        self._partitions, self._running, self._ending = partitions, True, self._leaving
        async with asyncio.TaskGroup() as tasks:
            # Beside the mover: leases must be renewed while a partition takes long to drain.
            keeper = tasks.create_task(self._keep_leases())
            await self._move(assign)
            await cancel_and_wait(keeper)
        self._until.clear()
        with suppress(LeaseUnavailable):
            await self.leases.release(partitions, range(partitions))
        await self._announce()

    async def resign(self) -> None:
        """Stop being a worker."""
        self._running = False
        with suppress(LeaseUnavailable):
            await self.leases.leave(self._partitions)
        await self._announce()
        await self.leases.close()
        self._left.set()

    def release_all(self) -> None:
        """Drop all partitions at once, undrained: the number of partitions has changed."""
        self._ending = True
        self._lose(self.held | self._share)

    async def owns(self, partition: int) -> bool:
        """Ask Redis again; while it is down, whoever raised the epoch last is the owner."""
        try:
            await self._heartbeat()
        except LeaseUnavailable:
            return partition in self._until and await self._was_last(partition)
        return partition in self._until

    def lost(self, partition: int) -> None:
        if partition in self._until:
            log.warning("Partition %d belongs to another worker now: dropping it", partition)
        self._lose([partition])

    async def leave(self) -> None:
        """Drain, release every lease, and acquire none again."""
        self._leaving = self._ending = True
        self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS):
                while self._running:
                    await self._left.wait()

    async def _was_last(self, partition: int) -> bool:
        if self.last_owner is None:
            return True
        try:
            return await self.last_owner(partition) == self.leases.owner
        except Exception as error:
            log.warning(
                "Neither Redis nor JetStream names the owner of partition %d: %r", partition, error
            )
            return True

    # ---------------------------------------------------------------- the keeper

    async def _keep_leases(self) -> None:
        async with news_of(self.js, _LEASES) if self.js else nullcontext(News()) as news:
            outage = Outage(log, "The leases", most=self._beat)
            await outage.retry_forever(self._heartbeat, LeaseUnavailable)
            await self._announce()  # that we have come
            while True:
                await news.wait(_PAUSE, self._calm_beat if self.settled else self._beat)
                await outage.retry_forever(self._heartbeat, LeaseUnavailable)

    async def _announce(self) -> None:
        if self.js is not None:
            await announce(self.js, _LEASES)

    async def _heartbeat(self) -> None:
        """Renew our leases, read all of them, and acquire or note what should change."""
        async with self._redis:
            # Before the heartbeat, which sets again what Redis lost of the leases we hold.
            self._drop_if_stopped()
            started = time.monotonic()
            try:
                view = await self.leases.beat(self._partitions, self._until)
            except LeaseUnavailable:
                self._blind_since = self._blind_since or started
                raise
            self._note(view, started)
            self._drop_if_stopped()  # and after it: the answer may have come after a long stop
            if not self._ending and time.monotonic() >= self._waits_until:
                await self._change(view)

    def _drop_if_stopped(self) -> None:
        """Drop partitions that another worker may have owned while this process stood still.

        In an outage of Redis time passes too, but then nobody else can acquire anything.
        """
        now, seconds = time.monotonic(), self.leases.seconds
        stopped = now - self._checked > seconds
        self._checked = now
        answers = self._blind_since is None
        gone = [p for p, until in self._until.items() if stopped or (answers and now > until)]
        if gone:
            log.warning("Stood still for longer than the leases of %s: dropping them", sorted(gone))
            self._lose(gone)

    def _note(self, view: View, started: float) -> None:
        seconds = self.leases.seconds
        forgotten = self._began not in ("", view.began)
        blind = started - self._blind_since if self._blind_since is not None else 0.0
        if forgotten or blind > seconds / 2:
            # Redis lost the leases, or they may have run out. Acquire nothing for the length of a
            # lease, so that every worker can set its own again first.
            self._waits_until = started + seconds
        self._began, self._blind_since = view.began, None
        ours = view.of(self.leases.owner)
        others = self.held - ours
        if others:
            log.warning("Other workers hold the leases of %s now: dropping them", sorted(others))
            self._lose(others)
        self._hold(ours, started)

    async def _change(self, view: View) -> None:
        change = fair_change(view.owners, view.workers, self.leases.owner)
        self._surplus = frozenset(change.release)
        self._fair = not change.acquire and not change.release
        if change.acquire:
            started = time.monotonic()
            acquired = await self.leases.acquire(self._partitions, change.acquire)
            self._hold(acquired, started)
            if acquired:
                await self._announce()
        if self._surplus:
            self._changed.set()

    def _hold(self, partitions: Iterable[int], started: float) -> None:
        before = len(self._until)
        # From before the request: Redis counts from a later moment, so by our clock they end first.
        self._until |= dict.fromkeys(partitions, started + self.leases.seconds)
        if len(self._until) != before:
            self._changed.set()

    def _lose(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._until.pop(partition, None)
        self._lost |= frozenset(partitions)
        self._changed.set()

    # ---------------------------------------------------------------- the mover

    async def _move(self, assign: Assign) -> None:
        """Apply share after share; after `leave` or `release_all` the last one is empty."""
        outage = Outage(log, "Moving partitions", most=1.0)
        while not (self._ending and not self._share and not self._until):
            await self._changed.wait()
            await outage.retry_forever(lambda: self._follow(assign))

    async def _follow(self, assign: Assign) -> None:
        """Drop lost partitions, assign those we hold and keep, release the surplus."""
        self._changed.clear()  # before reading what it announces, or a change in between is missed
        lost = self._lost
        if lost & self._share:  # at once: another worker may own them already
            await self._assign(assign, self._share - lost, lost)
        self._lost -= lost
        surplus = self.held if self._ending else self._surplus & self.held
        target = self.held - surplus
        if target != self._share or not self._assigned:
            await self._assign(assign, target, self._share - target - surplus)
            log.info("Has the partitions %s of %d", sorted(target), self._partitions)
        if surplus:
            await self._release(surplus)  # last: the assignment above has drained it

    async def _assign(self, assign: Assign, target: frozenset[int], lost: frozenset[int]) -> None:
        self._share, self._assigned = self._share | target, False
        await assign(target, lost)
        self._share, self._assigned = target, True
        self.rebalances += 1

    async def _release(self, surplus: frozenset[int]) -> None:
        async with self._redis:  # or a heartbeat under way would set them again
            await self.leases.release(self._partitions, surplus)
            for partition in surplus:
                self._until.pop(partition, None)
            self._surplus -= surplus
        await self._announce()
