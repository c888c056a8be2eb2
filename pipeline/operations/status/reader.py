"""What each server knows of the partitions, asked by one who only looks.

Nothing is made or changed by it: where there is no stream, bucket or index, there is none after.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pipeline.banking.balance import BALANCE
from pipeline.coordination.partition_leases import PartitionLeases, View, name_of
from pipeline.coordination.partitioning import Partitioning, partitioning
from pipeline.eventstore import ChangeBacklog, EventStore, HistoryLost
from pipeline.messaging import STREAM, TOKEN_SUBJECT, JetStream, StreamState
from pipeline.messaging.kv import KeyValueEntry, Mirror
from pipeline.model.events import partition_of, slot_of
from pipeline.model.projection import Projection
from pipeline.operations.status.effective_position import Claims, claim_ids
from pipeline.operations.status.lag import (
    TO_BACKFILL,
    WaitingEvents,
    resume_token,
    unapplied,
    unforwarded,
)
from pipeline.operations.status.probe import Unknown
from pipeline.search import FailFastElastic, FoundDocument, Generation, GenerationGone
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import checkpoint_of
from pipeline.tables.checkpoints import ALIAS
from pipeline.tables.epochs import bucket_of, epoch_of
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList

MOST: Final = 20_000
"""Unforwarded events that are counted; of more, the lag is at least so much."""
_COUNTING_SECONDS: Final = 1.5

NO_STREAM: Final = Unknown("there is no stream: no forwarder has led yet")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """`partitions` None: nothing tells their number. What is after `token` is unforwarded."""

    partitions: Partitioning | None
    token: str | Unknown


@dataclass(frozen=True, slots=True)
class Epoch:
    """The highest epoch of a partition, and the name of who raised it."""

    number: int
    owner: str


@dataclass(frozen=True, slots=True)
class Log:
    """Where the stream stood `at` a moment of the event loop's clock; `tokens`: how many of its
    messages are only there to renew the resume token."""

    state: StreamState
    tokens: int
    at: float

    @property
    def given(self) -> int:
        """How many messages it was ever given, tokens left out."""
        return self.state.last - self.tokens


class StatusReader:
    """Asks each server for what it knows. Raises whatever that server's driver raises."""

    def __init__(
        self,
        settings: Settings,
        connected: Callable[[], Awaitable[JetStream]],
        store: Callable[[], EventStore],
        projection: Projection = BALANCE,
    ) -> None:
        self.projection = projection
        self._connected, self._store = connected, store
        self._elastic = FailFastElastic(settings.elasticsearch)
        self._leases = PartitionLeases(settings.redis, "onlooker", settings.lease_seconds)
        self._epochs: Mirror | None = None
        self._parked: ParkedAccountList | None = None

    async def close(self) -> None:
        await self._elastic.close()
        await self._leases.close()

    async def jetstream(self) -> JetStream:
        """The connection, if there is one at this moment."""
        js = await self._connected()
        if not js.nc.is_connected:
            raise ConnectionError("disconnected")
        return js

    async def log_end(self) -> LogEnd:
        """Where the log ends."""
        js = await self.jetstream()
        found, state = await asyncio.gather(partitioning(js), js.state(STREAM))
        if state is None:
            return LogEnd(None, NO_STREAM)
        token = resume_token(await js.last_message(STREAM), state)
        return LogEnd(found, token)

    async def unforwarded(self, token: str, partitions: int) -> list[WaitingEvents] | Unknown:
        """What the event store has after the end of the log, by partition."""
        try:
            unread = await self.unread(token)
        except HistoryLost:
            return Unknown(f"{TO_BACKFILL}: the change stream can't go on where the log ends")
        return unforwarded(unread, partitions)

    async def claims(self, now: Partitioning) -> tuple[Generation | None, Claims]:
        """The live generation, and what the checkpoints in it claim."""
        generation = await self._elastic.live(self.projection)
        if generation is None:
            return None, {}
        try:
            found = await self._elastic.mget(ALIAS, claim_ids(now, generation))
        except GenerationGone:  # no checkpoint was ever written
            return generation, {}
        claims = {key: checkpoint_of(each) for key, each in found.items()}
        return generation, {key: claim for key, claim in claims.items() if claim is not None}

    async def stream(self) -> Log | Unknown:
        """Where the stream stands."""
        found = await (await self.jetstream()).counted(STREAM, TOKEN_SUBJECT)
        return NO_STREAM if found is None else Log(*found, asyncio.get_running_loop().time())

    async def unapplied(self, partition: int, position: int) -> WaitingEvents | Unknown:
        return await unapplied(await self.jetstream(), partition, position)

    async def leases(self, partitions: int) -> View:
        return await self._leases.read(partitions)

    async def epochs(self) -> dict[int, Epoch]:
        """Who raised which epoch last, by partition."""
        js = await self.jetstream()
        self._epochs = self._epochs or Mirror(bucket_of(js, self.projection))
        await self._epochs.refresh()
        found = {key: _epoch(each) for key, each in self._epochs.entries.items()}
        return {int(key): epoch for key, epoch in found.items() if epoch and key.isdecimal()}

    async def unread(self, token: str) -> ChangeBacklog:
        """What the event store has after the end of the log. Raises `HistoryLost`."""
        return await self._store().unread(token, most=MOST, seconds=_COUNTING_SECONDS)

    async def document(self, account_id: str, version: int) -> FoundDocument | None:
        """The document that readers see of the account, at that version of a list of them."""
        document_id = self.projection.of(account_id, version)
        found = await self._elastic.mget(self.projection.name, [document_id])
        return found.get(document_id)

    async def parked_account(self, account_id: str) -> ParkedAccount | None:
        """How the account is parked, if it is."""
        parked = self._parked or ParkedAccountList(await self.jetstream(), self.projection)
        self._parked = parked
        await parked.refresh()
        return parked.get(account_id)

    async def parked(self, partitions: int) -> Counter[int]:
        """How many accounts are parked, by partition."""
        js = await self.jetstream()
        self._parked = self._parked or ParkedAccountList(js, self.projection)
        await self._parked.refresh()
        return Counter(
            partition_of(slot_of(each.account_id), partitions) for each in self._parked.all()
        )


def _epoch(entry: KeyValueEntry) -> Epoch | None:
    """None for what somebody wrote by hand and wrote wrong."""
    number, owner = epoch_of(entry), entry.value.get("owner")
    return Epoch(number, name_of(owner)) if number is not None and type(owner) is str else None
