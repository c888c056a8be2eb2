"""The Faust app that wires the worker: `faust -A pipeline.app worker` or `bank worker` runs it."""

import asyncio
import os
import socket

import faust

from pipeline.agents.balance import BalanceAgent
from pipeline.assignment import Shares
from pipeline.bridge import BatchSchema, Options, configure, options_of
from pipeline.exposition import exposed
from pipeline.jetstream import STREAM
from pipeline.partition_leases import owner_named
from pipeline.settings import Settings, load
from pipeline.tables.activity import Activity
from pipeline.worker_metrics import Seen, worker_checks, worker_metrics

COMMIT_SECONDS = 0.2


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
            assignment=Shares(settings, agent, owner, app),
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
    """Run the worker until `stop` is set or the task is cancelled; then drain and leave.

    Raises `CannotListen` for its metrics.
    """
    app = create_app(settings, name)
    shares = options_of(app).assignment
    assert isinstance(shares, Shares)
    seen = Seen(shares, shares.counters, shares.projector)
    async with exposed(settings, worker_metrics(seen), worker_checks(seen)):
        await _run(app, shares, stop or asyncio.Event())


async def _run(app: faust.App, shares: Shares, stop: asyncio.Event) -> None:
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
