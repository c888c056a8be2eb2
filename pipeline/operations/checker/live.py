"""The checker on the stores that the settings name."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from nats.errors import Error as NatsError

from pipeline.coordination.consumer_progress import NO_CONSUMER
from pipeline.coordination.partitioning import partitioning
from pipeline.eventstore import EventStore, StoreUnavailable
from pipeline.messaging import JetStream, JetStreamError
from pipeline.messaging.answers import ELECTION, until_answered
from pipeline.model.events import slots_of
from pipeline.model.projection import Projection
from pipeline.operations.checker import check
from pipeline.operations.checker.groups import with_groups
from pipeline.operations.checker.guards import alias_guards, stream_guards
from pipeline.operations.checker.history import Answer
from pipeline.operations.checker.report import Report
from pipeline.search import ProjectionUnavailable
from pipeline.search.scan import IndexScan
from pipeline.support.auth_errors import refusal
from pipeline.support.server_answers import worded
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList

PATIENCE: Final = 15.0
_CONNECT_SECONDS: Final = 5.0


class Unreachable(Exception):
    """A server that the checker needs does not answer; the message names it."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What the checker reads, and who is parked."""

    store: EventStore
    projection: IndexScan
    js: JetStream
    parked: frozenset[str]
    settings: Settings
    of: Projection

    async def under_way(self) -> frozenset[int]:
        """The slots of the partitions with events that are not applied or not acknowledged."""
        count = await self._partitions()
        waiting = await asyncio.gather(*map(self._waiting, range(count)))
        moving = [slots_of(p, count) for p, messages in enumerate(waiting) if messages]
        return frozenset(slot for slots in moving for slot in slots)

    async def _partitions(self) -> int:
        """The number in force, which may change during the check; 0 without a stream."""
        now = await partitioning(self.js)
        return now.count if now else 0

    async def _waiting(self, partition: int) -> int:
        try:
            info = await self.js.api(
                f"CONSUMER.INFO.{self.js.names.log}.{self.of.name}-{partition}"
            )
        except JetStreamError as error:
            if error.code != NO_CONSUMER:
                raise
            return 0  # no worker ever read the partition, so nothing is under way
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def forwarded(self) -> int:
        """The number of messages in the stream's partitions, resync markers not counted."""
        log = self.js.names.log
        info = await self.js.stream_info(log, {"subjects_filter": f"{log}.*"})
        subjects: dict[str, int] = info["state"].get("subjects") or {}
        ours = set(map(self.js.names.subject, range(await self._partitions())))
        return sum(
            count for name, count in subjects.items() if name.rpartition(".")[2].isdigit()
        ) - len(subjects.keys() & ours)


@asynccontextmanager
async def opened_events(settings: Settings) -> AsyncIterator[tuple[EventStore, JetStream]]:
    """Connect to MongoDB and NATS, and make sure that each answers; raises `Unreachable`."""
    async with AsyncExitStack() as stack:
        store = EventStore(settings.mongodb, settings.mongodb_database)
        stack.push_async_callback(store.close)
        try:
            await store.ping()
        except StoreUnavailable as error:
            raise _unreachable("MongoDB", "mongodb", settings, error) from error
        try:
            js = await JetStream.within(_CONNECT_SECONDS, settings.nats, "bank verify")
            stack.push_async_callback(js.close)
            await until_answered(partial(js.stream_info, js.names.log), ELECTION)
        except Exception as error:
            raise _unreachable("NATS", "nats", settings, error) from error
        yield store, js


@asynccontextmanager
async def opened(settings: Settings, projection: Projection | None = None) -> AsyncIterator[Stores]:
    """Connect to the stores, and make sure that each answers, and that the projection can be read,
    by default the first one; raises `Unreachable`."""
    projection = projection or settings.kept[0]
    index = IndexScan(settings.elasticsearch, projection.alias)
    try:
        try:
            await index.ping()
        except ProjectionUnavailable as error:
            raise _unreachable("Elasticsearch", "elasticsearch", settings, error) from error
        async with opened_events(settings) as (store, js):
            parked = ParkedAccountList(js, projection)
            try:
                await until_answered(parked.refresh, ELECTION)
            except Exception as error:
                raise _unreachable("NATS", "nats", settings, error) from error
            waiting = frozenset(account.account_id for account in parked.all())
            yield Stores(store, index, js, waiting, settings, projection)
    finally:
        await index.close()


async def check_stores(
    stores: Stores,
    *,
    history: Iterable[Answer] | None = None,
    alone: bool = False,
    patience: float = PATIENCE,
) -> Report:
    """`check` on opened stores; raises `Unreachable` when one goes away meanwhile."""
    with while_they_answer():
        report = await check(
            stores.store,
            stores.projection,
            under_way=partial(until_answered, stores.under_way, ELECTION),
            history=history,
            alone=alone,
            parked=stores.parked,
            patience=patience,
            guard_faults=await guard_faults(stores),
        )
        return await with_groups(stores.settings, report)


async def guard_faults(stores: Stores) -> list[str]:
    """What is wrong with the guards out of MongoDB."""
    return [
        *await until_answered(lambda: stream_guards(stores.js, stores.settings), ELECTION),
        *await alias_guards(stores.projection, stores.settings),
    ]


@contextmanager
def while_they_answer() -> Iterator[None]:
    """Raise `Unreachable` when a server goes away in the block."""
    try:
        yield
    except (JetStreamError, NatsError) as error:
        raise Unreachable(worded("NATS", error, "went away")) from error
    except StoreUnavailable as error:
        raise Unreachable(worded("MongoDB", error, "went away")) from error
    except ProjectionUnavailable as error:
        raise Unreachable(f"can't check: Elasticsearch: {error}") from error


async def check_live(settings: Settings, *, patience: float = PATIENCE) -> Report:
    """`check` on the stores that the settings name; raises `Unreachable`."""
    async with opened(settings) as stores:
        return await check_stores(stores, patience=patience)


def _unreachable(name: str, server: str, settings: Settings, error: Exception) -> Unreachable:
    text = str(error).partition(" (configured timeouts")[0] or "no answer in time"
    return Unreachable(
        f"can't check: {name} at {settings.access(server)}: {refusal(error) or text}\n"
        f"{settings.advice(server)}"
    )
