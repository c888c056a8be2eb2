"""Reads from each server what it knows of the partitions.

It only reads: it creates no stream, bucket or index where there is none.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pipeline.coordination.partition_leases import PartitionLeases, View, name_of
from pipeline.coordination.partitioning import Partitioning, partitioning
from pipeline.eventstore import ChangeBacklog, EventStore, HistoryLost
from pipeline.messaging import JetStream, StreamState
from pipeline.messaging.kv import KeyValueEntry, Mirror
from pipeline.model.events import partition_of, slot_of
from pipeline.model.projection import Projection
from pipeline.operations.status.effective_position import CheckpointsById, checkpoint_ids
from pipeline.operations.status.lag import (
    TO_BACKFILL,
    WaitingEvents,
    resume_token,
    unapplied,
    unforwarded,
)
from pipeline.operations.status.probe import Unknown
from pipeline.search import FailFastElastic, FoundDocument, Generation, GenerationGone
from pipeline.support.cancellation import close_all
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import checkpoint_of
from pipeline.tables.epochs import bucket_of, epoch_of
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList

MOST: Final = 20_000
"""Unforwarded events that are counted; with more, the lag is at least so many."""
NAMED: Final = 5
"""Parked accounts whose ids are shown."""
_COUNTING_SECONDS: Final = 1.5

NO_STREAM: Final = Unknown("there is no stream: no forwarder has led yet")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """`partitions` is None while the stream does not say. Events after `token` are unforwarded."""

    partitions: Partitioning | None
    token: str | Unknown


@dataclass(frozen=True, slots=True)
class Epoch:
    """The highest epoch of a partition, and the name of the owner that raised it."""

    number: int
    owner: str


@dataclass(frozen=True, slots=True)
class Parked:
    """How many accounts are parked in each partition, and the ids of those parked last, the newest
    first."""

    by_partition: Counter[int]
    newest: list[str]


@dataclass(frozen=True, slots=True)
class Log:
    """The state of the stream `at` a time of the event loop's clock; `tokens`: how many of its
    messages only renew the resume token."""

    state: StreamState
    tokens: int
    at: float

    @property
    def given(self) -> int:
        """How many messages were ever published to it, without tokens."""
        return self.state.last - self.tokens


class StatusReader:
    """Reads each server. Raises whatever that server's driver raises."""

    def __init__(
        self,
        settings: Settings,
        connected: Callable[[], Awaitable[JetStream]],
        store: Callable[[], EventStore],
        projection: Projection,
    ) -> None:
        self.projection = projection
        self._connected, self._store = connected, store
        self._elastic = FailFastElastic(settings.elasticsearch)
        self._checkpoints = settings.names.checkpoints_alias
        self._leases = PartitionLeases(settings.redis, "status-reader", settings.lease_seconds)
        self._epochs: Mirror | None = None
        self._parked: ParkedAccountList | None = None

    async def close(self) -> None:
        await close_all(self._elastic.close, self._leases.close)

    async def jetstream(self) -> JetStream:
        """The connection, if there is one at this moment. Raises why there is none."""
        js = await self._connected()
        if not js.nc.is_connected:
            # Whether nobody listens there is known from the last attempt to connect again.
            raise ConnectionError(js.nc.last_error or "disconnected") from js.nc.last_error
        return js

    async def log_end(self) -> LogEnd:
        """Where the log ends."""
        js = await self.jetstream()
        found, state = await asyncio.gather(partitioning(js), js.state(js.names.log))
        if state is None:
            return LogEnd(None, NO_STREAM)
        # The message after the state: one read before it may not be the last of that state.
        token = resume_token(await js.last_message(js.names.log), state)
        return LogEnd(found, token)

    async def unforwarded(self, token: str, partitions: int) -> list[WaitingEvents] | Unknown:
        """The events in the store after the end of the log, by partition."""
        try:
            backlog = await self.change_backlog(token)
        except HistoryLost:
            return Unknown(f"{TO_BACKFILL}: the change stream can't go on where the log ends")
        return unforwarded(backlog, partitions)

    async def checkpoints(self, now: Partitioning) -> tuple[Generation | None, CheckpointsById]:
        """The live generation, and the checkpoints in it."""
        generation = await self._elastic.live(self.projection)
        if generation is None:
            return None, {}
        try:
            # By id and in real time: a search would be as old as the index's last refresh.
            found = await self._elastic.mget(self._checkpoints, checkpoint_ids(now, generation))
        except GenerationGone:  # no checkpoint was ever written
            return generation, {}
        checkpoints = {key: checkpoint_of(each) for key, each in found.items()}
        return generation, {key: each for key, each in checkpoints.items() if each is not None}

    async def stream(self) -> Log | Unknown:
        """The state of the stream."""
        js = await self.jetstream()
        found = await js.counted(js.names.log, js.names.token_subject)
        return NO_STREAM if found is None else Log(*found, asyncio.get_running_loop().time())

    async def unapplied(self, partition: int, position: int) -> WaitingEvents | Unknown:
        return await unapplied(await self.jetstream(), partition, position)

    async def leases(self, partitions: int) -> View:
        return await self._leases.read(partitions)

    async def epochs(self) -> dict[int, Epoch]:
        """The highest epoch of each partition."""
        js = await self.jetstream()
        self._epochs = self._epochs or Mirror(bucket_of(js, self.projection))
        await self._epochs.refresh()
        found = {key: _epoch(each) for key, each in self._epochs.entries.items()}
        return {int(key): epoch for key, epoch in found.items() if epoch and key.isdecimal()}

    async def change_backlog(self, token: str) -> ChangeBacklog:
        """The changes in the store after the end of the log. Raises `HistoryLost`."""
        return await self._store().change_backlog(token, most=MOST, seconds=_COUNTING_SECONDS)

    async def document(self, account_id: str, version: int) -> FoundDocument | None:
        """The document of the account that readers see; where each event has one, that of the
        version."""
        document_id = self.projection.of(account_id, version)
        found = await self._elastic.mget(self.projection.alias, [document_id])
        return found.get(document_id)

    async def parked_account(self, account_id: str) -> ParkedAccount | None:
        """The entry of a parked account; None if it is not parked."""
        parked = self._parked or ParkedAccountList(await self.jetstream(), self.projection)
        self._parked = parked
        await parked.refresh()
        return parked.get(account_id)

    async def parked(self, partitions: int) -> Parked:
        """The accounts that are parked."""
        js = await self.jetstream()
        self._parked = self._parked or ParkedAccountList(js, self.projection)
        await self._parked.refresh()
        found = [each.account_id for each in self._parked.all()]
        by_partition = Counter(partition_of(slot_of(each), partitions) for each in found)
        return Parked(by_partition, found[: -NAMED - 1 : -1])


def _epoch(entry: KeyValueEntry) -> Epoch | None:
    """The epoch of an entry; None for an invalid entry."""
    number, owner = epoch_of(entry), entry.value.get("owner")
    return Epoch(number, name_of(owner)) if number is not None and type(owner) is str else None
