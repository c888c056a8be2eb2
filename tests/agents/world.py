"""The stores of a projection, and one worker on them."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp

from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import DEPOSITED
from pipeline.coordination.partitioning import Partitioning, ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event, new_event
from pipeline.support.settings import Settings
from tests.bank import (
    PARTITIONS,
    StreamSource,
    append,
    exact,
    publish,
)
from tests.harness import eventually
from tests.names import STREAM, subject


@dataclass
class World:
    """The stores, and one worker at a time."""

    settings: Settings
    js: JetStream
    store: EventStore
    runner: ProjectionRunner = field(init=False)
    source: StreamSource = field(init=False)
    floors: dict[int, int] = field(default_factory=dict)

    async def start(self, owner: str = "worker", watch_seconds: float = 0.3) -> ProjectionRunner:
        self.source = StreamSource(self.js, self.floors)
        self.runner = self.worker(self.source, owner, watch_seconds)
        self.source.runner = self.runner
        await self.runner.__aenter__()
        for partition in range(PARTITIONS):
            self.runner.acquire(partition)
        await eventually(lambda: len(started(self.runner)) == PARTITIONS, seconds=60)
        return self.runner

    def worker(
        self, source: StreamSource, owner: str, watch_seconds: float = 0.3
    ) -> ProjectionRunner:
        return ProjectionRunner(
            self.settings,
            store=self.store,
            js=self.js,
            source=source,
            partitioning=Partitioning(PARTITIONS),
            owner=owner,
            projection=BALANCE,
            watch_seconds=watch_seconds,
        )

    async def stop(self) -> None:
        """At once, as a crash would."""
        await self.source.close()
        await self.runner.__aexit__()

    async def happen(self, histories: list[list[Event]], *, published: bool = True) -> None:
        """Store the events, and publish them layer by layer."""
        await append(self.store, histories)
        if published:
            await publish(self.js, in_order(histories))

    async def exact(self) -> bool:
        return await exact(self.settings.elasticsearch_url, self.store)

    async def settled(self) -> None:
        """Wait until everything is applied, acked and exact."""
        await eventually(self.acked, seconds=60)
        await eventually(self.exact, seconds=60)

    async def acked(self) -> bool:
        for partition in range(PARTITIONS):
            last = await self.js.last_message(STREAM, subject(partition))
            if last is not None and self.floors.get(partition, 0) < last.sequence:
                return False
        return all(processor.idle for processor in self.runner.processors.values())

    async def curl(self, method: str, path: str, body: Any = None) -> None:
        async with (
            aiohttp.ClientSession(self.settings.elasticsearch_url) as http,
            http.request(method, path, json=body) as answer,
        ):
            assert answer.status < 300, await answer.text()


def in_order(histories: list[list[Event]]) -> list[Event]:
    """The events of all accounts, mixed, each account's in order."""
    layers = range(max(len(events) for events in histories))
    return [events[layer] for layer in layers for events in histories if layer < len(events)]


def more(histories: list[list[Event]], length: int = 3) -> list[list[Event]]:
    """The following events of the accounts; `histories` grows by them."""
    added = []
    for events in histories:
        last = events[-1]["version"]
        account_id = events[0]["account_id"]
        following = [
            new_event(account_id, last + n, DEPOSITED, {"money": n}) for n in range(1, length + 1)
        ]
        added.append(following)
        events += following
    return added


async def world_on(settings: Settings) -> World:
    js = await JetStream.connect(settings.nats_url, "test")
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    quick = settings.model_copy(update={"partitions": PARTITIONS, "index_grace_seconds": 0.5})
    await ensure_log(js, quick)
    return World(quick, js, store)


def started(runner: ProjectionRunner) -> list[int]:
    return [p for p, processor in runner.processors.items() if processor.owned]
