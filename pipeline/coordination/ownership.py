"""Which partitions this worker has: a fair share of them, by leases. The bridge's `Assignment`.

A keeper beats a few times a lease: it renews what is held, takes what is free and ours to take, and
notes what is lost or surplus. A mover applies that: it drops what is lost at once, and gives a
lease back only when its partition is drained. Nothing rests on it but who does the work.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from pipeline.bridge import Assign
from pipeline.coordination.fair_share import fair_change
from pipeline.coordination.leases import LeaseUnavailable
from pipeline.coordination.partition_leases import PartitionLeases, View
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

RENEWED: Final = 0.3
"""A lease is renewed when this part of it has passed, or sooner."""
LONGEST_BEAT: Final = 0.25
"""Seconds between two looks: what another worker gives is taken as soon as that."""
LEAVING_SECONDS: Final = 6.0

LastOwner = Callable[[int], Awaitable[str | None]]
"""Who raised a partition's epoch last; asked only while Redis can't be."""


class Ownership:
    """One worker's share of the partitions, while `run` runs."""

    def __init__(self, leases: PartitionLeases, last_owner: LastOwner | None = None) -> None:
        self.leases, self.last_owner = leases, last_owner
        self.rebalances = 0
        self._beat = min(LONGEST_BEAT, RENEWED * leases.seconds)
        self._partitions = 0
        self._until: dict[int, float] = {}  # what we hold, and until when by our own clock
        self._surplus: frozenset[int] = frozenset()
        self._lost: frozenset[int] = frozenset()
        self._share: frozenset[int] = frozenset()  # what may be assigned
        self._assigned = True  # whether it is
        self._fair = False  # whether there was nothing to take or to give at the last look
        self._began = ""
        self._settled = 0.0
        self._blind_since: float | None = None
        self._seen = time.monotonic()
        self._running = self._leaving = self._ending = False
        self._changed, self._left = asyncio.Event(), asyncio.Event()
        self._redis = asyncio.Lock()

    @property
    def held(self) -> frozenset[int]:
        """The partitions whose leases are ours."""
        return frozenset(self._until)

    @property
    def known(self) -> bool:
        """Whether Redis answered the last time, so that everybody's leases are known."""
        return self._began != "" and self._blind_since is None

    @property
    def leaving(self) -> bool:
        """Whether `leave` was called."""
        return self._leaving

    @property
    def settled(self) -> bool:
        """Whether our share is fair, held and assigned, as far as is known."""
        return self._running and self._fair and self._assigned and self._share == self.held

    # ---------------------------------------------------------------- what the bridge calls

    async def run(self, assign: Assign, partitions: int) -> None:
        """Keep and move, until cancelled."""
        try:
            await self.keep(assign, partitions)
        finally:
            await self.resign()
        await asyncio.Event().wait()

    async def keep(self, assign: Assign, partitions: int) -> None:
        """Keep and move, until `leave` or `let_go`; then nothing is held. May be called again."""
        self._partitions, self._running, self._ending = partitions, True, self._leaving
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self._keep())
            await self._move(assign)
            await cancel_and_wait(keeper)
        self._until.clear()
        with suppress(LeaseUnavailable):
            await self.leases.give(partitions, range(partitions))

    async def resign(self) -> None:
        """Be a worker no more."""
        self._running = False
        with suppress(LeaseUnavailable):
            await self.leases.leave(self._partitions)
        await self.leases.close()
        self._left.set()

    def let_go(self) -> None:
        """Drop everything at once, undrained: there is another number of partitions."""
        self._ending = True
        self._lose(self.held | self._share)

    async def owns(self, partition: int) -> bool:
        """Ask Redis again; while it is down, who raised the epoch last is the owner."""
        try:
            await self._look()
        except LeaseUnavailable:
            return partition in self._until and await self._was_last(partition)
        return partition in self._until

    def lost(self, partition: int) -> None:
        if partition in self._until:
            log.warning("Partition %d is another worker's now: dropping it", partition)
        self._lose([partition])

    async def leave(self) -> None:
        """Drain, give every lease back at once, and take none again."""
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
            log.warning("Nobody can tell whose partition %d is: %r", partition, error)
            return True

    # ---------------------------------------------------------------- the keeper

    async def _keep(self) -> None:
        outage, attempt = Outage(log, "The leases", most=self._beat), 0
        while True:
            try:
                await self._look()
            except LeaseUnavailable as error:
                await outage.pause(error, attempt)
                attempt += 1
            else:
                outage.over()
                attempt = 0
                await asyncio.sleep(self._beat)

    async def _look(self) -> None:
        """Renew, see what has become of the leases, and take or note what should change."""
        async with self._redis:
            self._drop_if_stopped()
            started = time.monotonic()
            try:
                view = await self.leases.beat(self._partitions, self._until)
            except LeaseUnavailable:
                self._blind_since = self._blind_since or started
                raise
            self._see(view, started)
            self._drop_if_stopped()
            if not self._ending and time.monotonic() >= self._settled:
                await self._change(view)

    def _drop_if_stopped(self) -> None:
        """After a stop longer than a lease, what we held may have been another's meanwhile.

        In an outage of Redis time passes too, but nobody else can take anything.
        """
        now, seconds = time.monotonic(), self.leases.seconds
        stopped = now - self._seen > seconds
        self._seen = now
        seeing = self._blind_since is None
        gone = [p for p, until in self._until.items() if stopped or (seeing and now > until)]
        if gone:
            log.warning("Stood still for longer than the leases of %s: dropping them", sorted(gone))
            self._lose(gone)

    def _see(self, view: View, started: float) -> None:
        seconds = self.leases.seconds
        forgotten = self._began not in ("", view.began)
        blind = started - self._blind_since if self._blind_since is not None else 0.0
        if forgotten or blind > seconds / 2:  # the others need a moment to take back their own
            self._settled = started + seconds
        self._began, self._blind_since = view.began, None
        ours = view.of(self.leases.owner)
        others = self.held - ours
        if others:
            log.warning("The leases of %s are other workers' now: dropping them", sorted(others))
            self._lose(others)
        self._hold(ours, started)

    async def _change(self, view: View) -> None:
        change = fair_change(view.owners, view.workers, self.leases.owner)
        self._surplus = frozenset(change.give)
        self._fair = not change.acquire and not change.give
        if change.acquire:
            started = time.monotonic()
            self._hold(await self.leases.acquire(self._partitions, change.acquire), started)
        if self._surplus:
            self._changed.set()

    def _hold(self, partitions: Iterable[int], started: float) -> None:
        before = len(self._until)
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
        """Apply share after share; when it is to end, the last one is empty."""
        outage, attempt = Outage(log, "Moving partitions", most=1.0), 0
        while not (self._ending and not self._share and not self._until):
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow(assign)
            except Exception as error:  # repeated until it works: each share is whole
                self._changed.set()
                await outage.pause(error, attempt)
                attempt += 1
            else:
                outage.over()
                attempt = 0

    async def _follow(self, assign: Assign) -> None:
        """Drop what is lost, move to what is held and not surplus, give the surplus back."""
        lost = self._lost
        if lost & self._share:
            await self._assign(assign, self._share - lost, lost)
        self._lost -= lost
        surplus = self.held if self._ending else self._surplus & self.held
        target = self.held - surplus
        if target != self._share or not self._assigned:
            await self._assign(assign, target, self._share - target - surplus)
            log.info("Has the partitions %s of %d", sorted(target), self._partitions)
        if surplus:
            await self._give(surplus)

    async def _assign(self, assign: Assign, target: frozenset[int], lost: frozenset[int]) -> None:
        self._share, self._assigned = self._share | target, False
        await assign(target, lost)
        self._share, self._assigned = target, True
        self.rebalances += 1

    async def _give(self, surplus: frozenset[int]) -> None:
        async with self._redis:  # else a beat on its way would take them back
            await self.leases.give(self._partitions, surplus)
            for partition in surplus:
                self._until.pop(partition, None)
            self._surplus -= surplus
