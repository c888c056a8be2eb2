"""Brings instances of a process up to what the event store has, one step after another.

Whoever calls says only that there may be something to do. What there is comes from the event store
and from the instance itself, so it does not matter who calls, how often and in which order, and two
runners at once do no harm: every step is a compare-and-set, and commands have keys.

The order of a step must not change: the cause into `doing`, the commands, the state after them.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from pipeline.commands import (
    Connection,
    KeyReused,
    StoreRefused,
    StoreUnavailable,
    StoreUnguarded,
    TooManyConflicts,
)
from pipeline.commands.caches import Locks
from pipeline.eventstore import EventStore
from pipeline.model.aggregate import Refused
from pipeline.model.events import Event
from pipeline.model.process import Process, Send
from pipeline.processes.instance import Cause, Instance, Stuck
from pipeline.processes.metrics import ProcessMetrics

log = logging.getLogger(__name__)

_EVENTS: Final = 500
"""Events in memory at once, of one aggregate."""

UNAVAILABLE: Final = (StoreUnavailable, StoreUnguarded, StoreRefused, TooManyConflicts)
"""What concerns all instances, or passes: repeat the call until it works."""


class NotReadYet(Exception):
    """An event that came by the change stream is not in the event store, or not yet."""


class _Outdated(Exception):
    """Somebody else has changed the instance meanwhile."""


class Reactions:
    """Of one process."""

    def __init__(
        self,
        process: Process[Any],
        store: EventStore,
        connection: Connection,
        metrics: ProcessMetrics,
    ) -> None:
        self._process, self._store, self._connection = process, store, connection
        self._metrics, self._locks = metrics, Locks()

    async def advance(
        self, aggregate_id: str, *, version: int = 0, now: datetime | None = None
    ) -> None:
        """React to all events of the aggregate, which has one of that `version`; then, if `now` is
        given, to deadlines that have come by then. Also try a parked one again whose time has come.

        Raises `NotReadYet` and what is in `UNAVAILABLE`.
        """
        async with self._locks.acquire([aggregate_id]):
            while True:
                try:
                    await self._advance(aggregate_id, version, now)
                    return
                except Stuck as stuck:
                    if await self._parked(stuck):
                        return
                except _Outdated:
                    log.debug("%s %s: read again", self._process.name, aggregate_id)

    async def _advance(self, aggregate_id: str, version: int, now: datetime | None) -> None:
        instance = await self._read(aggregate_id)
        if instance.parked and (now is None or now < instance.parked.retry):
            return
        if instance.made_by != self._process.version:
            refolded = instance.refolded(await self._history(instance))
            instance = await self._kept(refolded, instance)
        if instance.doing is not None:
            instance = await self._step(instance, await self._begun(instance))
        while True:
            for event in (events := await self._after(instance)):
                instance = await self._step(instance, event)
            if now is None and (
                not events or (len(events) < _EVENTS and instance.version >= version)
            ):
                break
            if not events:  # a deadline comes after what was stored before it was looked at
                if now is None or instance.due is None or instance.due > now:
                    break
                self._metrics.late.labels(self._process.name).observe(
                    (now - instance.due).total_seconds()
                )
                instance = await self._step(instance, instance.due)
        if instance.parked:  # what it could not react to is gone
            instance = await self._put(replace(instance, parked=None))
        if instance.version < version:  # a new primary may know less of what a majority has
            raise NotReadYet(f"version {version} of {aggregate_id} can't be read yet")

    async def _step(self, instance: Instance[Any], cause: Cause) -> Instance[Any]:
        """Answer one input."""
        reaction = instance.reaction(cause)
        if reaction.commands:
            if instance.doing is None:
                instance = await self._put(instance.begun(cause))
            for number, send in enumerate(reaction.commands):
                outcome = await self._execute(instance, cause, number, send)
                self._metrics.commands.labels(self._process.name, outcome).inc()
        after = await self._kept(instance.after(cause, reaction), instance)
        what = "deadline" if isinstance(cause, datetime) else "event"
        self._metrics.reactions.labels(self._process.name, what).inc()
        return after

    async def _execute(self, instance: Instance[Any], cause: Cause, number: int, send: Send) -> str:
        """Execute a command, and return its outcome. Raises `Stuck`, and what is in
        `UNAVAILABLE`."""
        # A deadline is a consequence of the last event.
        correlation_id, causation_id = (
            (instance.correlation_id, instance.event_id)
            if isinstance(cause, datetime)
            else (cause["correlation_id"], cause["_id"])
        )
        try:
            done = await self._connection.execute(
                send.aggregate,
                send.id,
                send.command,
                key=instance.key(cause, number),
                correlation_id=correlation_id,
                causation_id=causation_id,
            )
        except Refused as refusal:
            log.debug("%s: %s is refused: %r", self._process.name, _named(send), refusal)
            return "refused"
        except KeyReused:
            # It was executed before somebody changed `react`.
            named = self._process.name, _named(send)
            log.warning("%s: another command was executed than this %s", *named)
            return "changed"
        except StoreRefused as error:
            if error.whole:
                raise
            raise Stuck(instance, f"{_named(send)}: {error!r}") from error
        except UNAVAILABLE:
            raise
        except Exception as error:  # no such aggregate, an id that can't be one, unreadable events
            raise Stuck(instance, f"{_named(send)}: {error!r}") from error
        if done.replayed:
            return "repeated"
        return "executed" if done.events else "nothing"

    # ---------------------------------------------------------------- what is stored

    async def _read(self, aggregate_id: str) -> Instance[Any]:
        document = await self._store.processes.find(self._process.name, aggregate_id)
        if document is None:
            return Instance.new(self._process, aggregate_id)
        return Instance.of(self._process, document)

    async def _put(self, instance: Instance[Any]) -> Instance[Any]:
        """The instance as it is kept now. Raises `_Outdated`."""
        after = replace(instance, revision=instance.revision + 1)
        if not await self._store.processes.put(after.document()):
            raise _Outdated
        return after

    async def _kept(self, after: Instance[Any], before: Instance[Any]) -> Instance[Any]:
        """The same as `_put`; raises `Stuck` if MongoDB can't keep the state."""
        try:
            return await self._put(after)
        except (_Outdated, *UNAVAILABLE):
            raise
        except Exception as error:
            raise Stuck(before, f"its state can't be kept: {error!r}") from error

    async def _parked(self, stuck: Stuck) -> bool:
        """Whether it is parked now; if not, the instance has changed meanwhile."""
        instance = stuck.instance.waiting(stuck.reason, await self._store.processes.now())
        name, reason = f"{self._process.name} {instance.aggregate_id}", stuck.reason
        try:
            await self._put(instance)
        except _Outdated:
            return False
        log.warning("Parked %s after version %d: %s", name, instance.version, reason)
        return True

    async def _after(self, instance: Instance[Any]) -> Sequence[Event]:
        return await self._store.of_kinds(
            instance.aggregate_id, self._process.kinds, after=instance.version, limit=_EVENTS
        )

    async def _begun(self, instance: Instance[Any]) -> Cause:
        """The cause that is being answered."""
        if isinstance(instance.doing, datetime):
            return instance.doing
        for event in await self._after(instance):
            if event["version"] == instance.doing:
                return event
        raise Stuck(instance, f"version {instance.doing} is not in the event store")

    async def _history(self, instance: Instance[Any]) -> list[Event]:
        """All events that made its state."""
        events: list[Event] = []
        version = 0
        while version < instance.version:
            found = await self._after(replace(instance, version=version))
            events += [each for each in found if each["version"] <= instance.version]
            version = found[-1]["version"] if found else instance.version
        return events


def _named(send: Send) -> str:
    """The command without its fields: logs and reasons stay when what is personal is forgotten."""
    return f"{type(send.command).__name__} to {send.aggregate} {send.id}"
