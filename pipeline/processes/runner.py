"""Runs a process: in one worker at a time, which follows the events of the process's kinds.

A Redis lease decides who tries. Two that run at once do no harm: the position is changed by
compare-and-set, as instances are (`reactions.py`). It says that all before its token was reacted
to, in the slots below its `slot`; the others are still to be walked through.

The change stream says which aggregates have new events; MongoDB leaves out those of other kinds. A
process that has no token yet, or an outdated one, walks through the event store first.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from pipeline.commands import Connection
from pipeline.coordination.leases import Lease, leading
from pipeline.eventstore import EventStore, HistoryLost
from pipeline.model.events import SLOTS, Event, misplaced
from pipeline.model.process import Process
from pipeline.processes.metrics import ProcessMetrics
from pipeline.processes.reactions import UNAVAILABLE, NotReadYet, Reactions
from pipeline.support.cancellation import raise_if_cancelled, running
from pipeline.support.readiness import NotReady
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.support.throttle import Throttle
from pipeline.support.ticks import tick

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks for deadlines."""
_AHEAD_SECONDS: Final = 5.0
"""What a look sees beforehand: with no deadline until then it rests as long, or until a reaction,
which may set one. A bank at rest asks MongoDB less often so."""
_GUARDS_SECONDS: Final = 5.0
"""Between two looks at the guards of the event store: each append is preceded by one of its own."""
_AT_ONCE: Final = 32
"""Instances that react at the same time."""
_GONE_SECONDS: Final = 60.0
"""After which an event that can't be read is taken for one that somebody deleted."""
_WAKING: Final = 500
_COUNTED: Final = 10_000


class ProcessRunner:
    """Of one process in one worker. `owner`: the worker's name; `store`: as of `Processes`."""

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        process: Process[Any],
        owner: str,
        metrics: ProcessMetrics | None = None,
    ) -> None:
        self.process, self._settings, self._owner = process, settings, owner
        self._store = store
        self._metrics = metrics or ProcessMetrics()
        self._metrics.begin(process.name)
        self._outage = Outage(log, f"The process {process.name}", most=1.0)
        self._leader: Leader | None = None

    async def run(self) -> None:
        """Run it whenever the lease is ours, until cancelled."""
        settings = self._settings
        lease = Lease(
            settings.redis, f"process-{self.process.name}", self._owner, settings.lease_seconds
        )
        try:
            while True:
                raise_if_cancelled()
                async with leading(lease) as lost:
                    await self._outage.retry_forever(partial(self.lead, lost))
        finally:
            await lease.close()

    async def lead(self, lost: asyncio.Event) -> None:
        """React until another worker has the lease, or until anything fails."""
        settings, name = self._settings, self.process.name
        chains, encryption = settings.chains == "on", settings.encryption == "on"
        connection = Connection(
            settings.chosen, self._store, begin_chains=chains, encrypt=encryption
        )
        self._leader = leader = Leader(
            self.process, connection, self._store, self._owner, self._outage, self._metrics
        )
        leader.token_seconds = settings.token_seconds
        leader.throttle = Throttle(settings.rebuild_rate, live=time.monotonic)
        try:
            await connection.service.open()
            async with connection.watched(every=_GUARDS_SECONDS):
                await leader.lead(lost)
        finally:
            self._leader = None
        log.warning("Another worker runs the process %s now", name)

    # ---------------------------------------------------------------- what others see

    async def refresh(self) -> None:
        """Bring the gauges up to date."""
        name, leader = self.process.name, self._leader
        overdue, since, parked, lag = 0, 0.0, 0, 0.0
        self._metrics.leading.labels(name).set(leader is not None)
        if leader is not None:
            lag, states = leader.lag, leader.store.processes
            now = await states.now()
            overdue = await states.overdue(name, now, _COUNTED)
            for first in await states.waking(name, now, 1):
                since = (now - first.wake).total_seconds()
            parked = await states.count_parked(name, _COUNTED)
        self._metrics.lag.labels(name).set(lag)
        self._metrics.overdue.labels(name).set(overdue)
        self._metrics.overdue_seconds.labels(name).set(since)
        self._metrics.parked.labels(name).set(parked)

    async def ready(self) -> str | None:
        """Raise `NotReady` while it runs here and can't go on; a warning if instances are
        parked."""
        if (reason := self._outage.reason) is not None:
            raise NotReady(reason)
        if (leader := self._leader) is None:
            return None
        parked = await leader.store.processes.count_parked(self.process.name, _COUNTED)
        return f"instances that are parked: {parked}" if parked else None


class _Outdated(Exception):
    """Somebody else has changed the position meanwhile."""


class Leader:
    """Follows the events, and looks for deadlines, as long as it is asked to."""

    def __init__(
        self,
        process: Process[Any],
        connection: Connection,
        store: EventStore,
        owner: str,
        outage: Outage,
        metrics: ProcessMetrics,
    ) -> None:
        self.store, self._process, self._owner = store, process, owner
        self._reactions = Reactions(process, store, connection, metrics)
        self._at_once, self._outage = asyncio.Semaphore(_AT_ONCE), outage
        self.token_seconds, self._kept = 60.0, 0.0
        self.throttle = Throttle(live=time.monotonic)
        self._token: str | None = None
        self._reacted = asyncio.Event()
        self._reached = time.monotonic()

    @property
    def lag(self) -> float:
        """Seconds since there was nothing left to react to."""
        return time.monotonic() - self._reached

    async def lead(self, lost: asyncio.Event) -> None:
        """Until `lost` is set, or anything fails."""
        log.info("Running the process %s", self._process.name)
        await self.store.processes.setup()
        async with running(self._outage.every(0, self._look_and_rest)):
            while not lost.is_set():
                try:
                    await self._follow(lost)
                except _Outdated:
                    log.debug("The position of %s: read again", self._process.name)
                except HistoryLost as reason:
                    log.warning("%s reads all events again: %s", self._process.name, reason)
                    with suppress(_Outdated):
                        await self._keep(token=None, slot=0)

    async def _follow(self, lost: asyncio.Event) -> None:
        """Go on from the position that is kept, until `lost` is set. Raises `_Outdated`."""
        position = await self.store.processes.position(self._process.name)
        self._token, slot = position.get("token"), position.get("slot", 0)
        async with self.store.watch(self._token, self._process.kinds) as batches:
            async for changes in batches:
                raise_if_cancelled()
                if self._token is None:
                    # Before the walk: what is stored from now on comes through the stream.
                    await self._keep(token=changes.token, slot=(slot := 0), owner=self._owner)
                if slot < SLOTS:
                    await self._walk(slot, lost)
                    slot = SLOTS
                if lost.is_set():
                    return
                await self._react(changes.events)
                renew = time.monotonic() - self._kept > self.token_seconds
                if changes.token != self._token and (changes.events or renew):
                    await self._keep(token=changes.token, owner=self._owner)
                self._reached = time.monotonic()
                self._outage.over()

    async def _walk(self, slot: int, lost: asyncio.Event) -> None:
        """React to all that is stored, from this slot on. It reads for half of the time at most:
        commands need MongoDB, too."""
        kinds = self._process.kinds
        log.info("%s reads all events from slot %d on", self._process.name, slot)
        read = self.store.replay(range(slot, SLOTS), rest=self.throttle.rest)
        async with aclosing(read) as lists:  # type: ignore[type-var]
            async for listed in lists:
                await self._react([each for each in listed if each.get("kind") in kinds])
                await self._keep(slot=listed[-1]["slot"])  # the slots below it are done
                if lost.is_set():
                    return
        await self._keep(slot=SLOTS)

    async def _keep(self, **changes: Any) -> None:
        """Change the position. Raises `_Outdated`."""
        states = self.store.processes
        if not await states.keep_position(self._process.name, self._token, **changes):
            raise _Outdated
        self._token, self._kept = changes.get("token", self._token), time.monotonic()

    # ---------------------------------------------------------------- instances

    async def _react(self, events: Iterable[Event]) -> None:
        """React to these events, and to what else is stored of their aggregates."""
        newest: dict[str, int] = {}
        for event in events:
            if misplaced(event) is None:
                account_id, version = event["account_id"], int(event["version"])
                newest[account_id] = max(version, newest.get(account_id, 0))
        async with asyncio.TaskGroup() as group:
            for account_id, version in newest.items():
                group.create_task(self._advance(account_id, version=version))
        if newest:
            self._reacted.set()

    async def _advance(self, aggregate_id: str, **about: Any) -> None:
        async with self._at_once:
            advance = partial(self._reactions.advance, aggregate_id, **about)
            until = time.monotonic() + _GONE_SECONDS
            while True:
                try:
                    return await self._outage.retry_forever(advance, UNAVAILABLE)
                except NotReadYet as error:
                    if time.monotonic() > until:
                        return log.error("%s passes over an event: %s", self._process.name, error)
                except Exception:  # a document that is not ours: the other instances go on
                    return log.exception("%s can't advance %s", self._process.name, aggregate_id)
                await asyncio.sleep(LOOK_SECONDS)

    async def _look_and_rest(self) -> None:
        self._reacted.clear()
        rest = await self.look()
        if rest > LOOK_SECONDS:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest - LOOK_SECONDS):
                    await self._reacted.wait()
        if rest:
            await tick(LOOK_SECONDS)

    async def look(self) -> float:
        """Answer deadlines that have come, and try parked instances again; returns after how many
        seconds to look again, unless there is a reaction before.

        A deadline comes when it has passed by the clock of this machine and by that of MongoDB: so
        one clock that is ahead has none answered early.
        """
        states, name, now = self.store.processes, self._process.name, datetime.now(UTC)
        waking = await states.waking(name, now + timedelta(seconds=_AHEAD_SECONDS), _WAKING)
        if not waking:
            return _AHEAD_SECONDS
        if waking[0].wake > now:
            return LOOK_SECONDS
        now = min(now, await states.now())
        come = [each.aggregate_id for each in waking if each.wake <= now]
        async with asyncio.TaskGroup() as group:
            for aggregate_id in come:
                group.create_task(self._advance(aggregate_id, now=now))
        return 0.0 if come else LOOK_SECONDS
