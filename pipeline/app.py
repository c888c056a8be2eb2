"""The Faust app that wires the worker: `faust -A pipeline.app worker` or `bank worker` runs it."""

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack, aclosing
from typing import Any

import faust

from pipeline.agents.balance import BalanceAgent
from pipeline.bridge import Assign, BatchSchema, Options, configure, options_of
from pipeline.epochs import owner_of
from pipeline.eventstore import EventStore
from pipeline.jetstream import STREAM, JetStream, ensure_balance_stream
from pipeline.ownership import Ownership
from pipeline.partition_leases import PartitionLeases, owner_named
from pipeline.projector import Projector
from pipeline.settings import Settings, load
from pipeline.tables.activity import Activity

log = logging.getLogger(__name__)

COMMIT_SECONDS = 0.2


class Shares(Ownership):
    """The worker's assignment: by leases, and the projector lives as long as it runs."""

    def __init__(self, settings: Settings, agent: BalanceAgent, owner: str) -> None:
        leases = PartitionLeases(settings.redis_url, owner, settings.lease_seconds)
        super().__init__(leases, self._raised_last)
        self._settings, self._agent, self._owner = settings, agent, owner
        self._js: JetStream | None = None

    async def run(self, assign: Assign, partitions: int) -> None:
        """Hold the projector, and the worker's share of the partitions."""
        async with AsyncExitStack() as stack:
            self._agent.projector = await self._projector(stack, partitions)
            stack.callback(setattr, self._agent, "projector", None)
            await super().run(assign, partitions)

    async def _raised_last(self, partition: int) -> str | None:
        return None if self._js is None else await owner_of(self._js, partition)

    async def _projector(self, stack: AsyncExitStack, partitions: int) -> Projector:
        settings = self._settings
        self._js = js = await JetStream.connect(settings.nats_url, f"worker {self._owner}")
        await stack.enter_async_context(aclosing(_Closing(js)))
        store = EventStore(settings.mongodb_url, settings.mongodb_database)
        await stack.enter_async_context(aclosing(_Closing(store)))
        await ensure_balance_stream(js, settings)
        projector = Projector(
            settings,
            store=store,
            js=js,
            source=self._agent.source,
            partitions=partitions,
            owner=self._owner,
        )
        return await stack.enter_async_context(projector)


class _Closing:
    """Gives `close()` the name that `aclosing` calls."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    async def aclose(self) -> None:
        await self._resource.close()


def create_app(settings: Settings, name: str | None = None) -> faust.App:
    """One worker's app: agents `balance` and `activity` on the stream's batches.

    `name` is what people see as the owner of the worker's partitions.
    """
    app = faust.App(
        "bank",
        broker=settings.nats_url,
        store="memory://",
        topic_partitions=settings.partitions,
        broker_commit_interval=COMMIT_SECONDS,
        web_enabled=False,
        datadir=settings.data_dir / "faust",
        loghandlers=[],
    )
    owner = owner_named(name or f"{socket.gethostname()}-{os.getpid()}")
    agent, activity = BalanceAgent(app), Activity(app)
    topic = app.topic(STREAM, schema=BatchSchema())
    app.agent(topic, name="balance")(agent.read)
    app.agent(topic, name="activity")(activity.read)
    configure(
        app,
        Options(
            assignment=Shares(settings, agent, owner),
            before_commit=agent.before_commit,
            lease_seconds=settings.lease_seconds,
            waits_for_seek=True,
            replicas=settings.stream_replicas,
            max_age_hours=settings.stream_max_age_hours,
        ),
    )
    return app


async def worker(
    settings: Settings, *, name: str | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run the worker until `stop` is set or the task is cancelled; then drain and leave."""
    app = create_app(settings, name)
    shares = options_of(app).assignment
    assert isinstance(shares, Shares)
    stop = stop or asyncio.Event()
    starting = asyncio.create_task(app.start())
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            ended = asyncio.create_task(app.wait_until_stopped())
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
    finally:
        waiting.cancel()
        starting.cancel()
        await shares.leave()
        await app.stop()


def __getattr__(name: str) -> faust.App:
    """`faust -A pipeline.app` finds `app` here, made of the environment's settings."""
    if name == "app":
        return create_app(load())
    raise AttributeError(name)
