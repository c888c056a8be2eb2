"""The Faust app of a worker: wires agents, bridge, assignment and projections; and processes.

`bank worker` or `faust -A pipeline.app worker` runs it.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import faust
from faust.types import TP

from pipeline.agents.assignment import WorkerAssignment
from pipeline.agents.projection_agent import ProjectionAgent
from pipeline.agents.worker_metrics import WorkerMetrics, worker_checks, worker_metrics
from pipeline.bridge import BatchSchema, BeforeCommit, Options, configure, options_of
from pipeline.coordination.partition_leases import name_of, owner_named
from pipeline.eventstore import EventStore
from pipeline.messaging.instances import answering
from pipeline.operations.followed_keys import followed_where_on
from pipeline.processes import Processes
from pipeline.support import garbage_collection
from pipeline.support.metrics_server import exposed
from pipeline.support.private_files import private_folder
from pipeline.support.self_report import SelfReport, process_name
from pipeline.support.settings import (
    PREFIX,
    Settings,
    SettingsError,
    load,
    require_projections,
)
from pipeline.tables.activity import Activity

COMMIT_SECONDS = 0.3
NATS = "nats://"
"""The broker's URL for Faust, which logs and shows it: address and credentials are in `Options`."""


def create_app(
    settings: Settings, name: str | None = None, store: EventStore | None = None
) -> faust.App:
    """One worker's app: an agent for each projection; the first one also counts for the table
    `activity`.

    Each projection has a topic of its own, with its own consumers on the one stream, so that none
    waits for another. `name` is shown as the owner of the worker's partitions. `store`: the event
    store, which the caller closes; by default one until the end of this process.
    """
    app = faust.App(
        settings.names.application,
        broker=NATS,
        store="memory://",
        topic_partitions=settings.partitions,
        broker_commit_interval=COMMIT_SECONDS,
        web_enabled=False,
        datadir=settings.data_dir / "faust",
        loghandlers=[],
        Monitor=faust.Sensor,  # Faust's own measures each event and each row, and nobody reads it
    )
    owner = owner_named(name or process_name())
    activity = Activity(app, settings.chosen.turnover)
    first, *others = settings.kept
    # The table counts what this agent reads: an agent of its own would cost each delivery another
    # passage through Faust.
    agents = [ProjectionAgent(app, first, activity.note)]
    agents += [ProjectionAgent(app, each) for each in others]
    for agent in agents:
        topic = app.topic(agent.topic, schema=BatchSchema())
        app.agent(topic, name=agent.topic)(agent.read)
    store = store or EventStore(settings.mongodb, settings.mongodb_database)
    configure(
        app,
        Options(
            assignment=WorkerAssignment(settings, agents, owner, app, store),
            before_commit=_before_commit(agents, activity),
            nats=settings.nats,
            lease_seconds=settings.lease_seconds,
            waits_for_seek=True,  # a partition processor seeks first: see `agents/acquire.py`
            streams={agent.topic: settings.names.log for agent in agents},
            max_age_hours=settings.stream_max_age_hours,
        ),
    )
    return app


def _before_commit(agents: Sequence[ProjectionAgent], activity: Activity) -> BeforeCommit:
    """Write the table `activity`, and checkpoint every projection's topic, before their acks."""
    topics = {agent.topic for agent in agents}

    async def before_commit(done: Mapping[TP, int]) -> Collection[TP]:
        activity.write()  # before any await: it has counted all that is done now, not less
        checkpointed = await asyncio.gather(*(agent.before_commit(done) for agent in agents))
        others = [tp for tp in done if tp.topic not in topics]
        return [*others, *(tp for each in checkpointed for tp in each)]

    return before_commit


async def worker(
    settings: Settings, *, name: str | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run the worker until `stop` is set or the task is cancelled; then drain and leave.

    Raises `CannotListen` for its metrics, and `SettingsError` without a folder for its data, or if
    the application has no projection.
    """
    garbage_collection.run_seldom()
    require_projections(settings)
    try:
        private_folder(settings.data_dir)  # Faust makes only its own folder in it
    except OSError as error:
        raise SettingsError(f"{PREFIX}DATA_DIR: {settings.data_dir}: {error.strerror}") from error
    # One for projections and processes: a client costs threads and connections, also at rest.
    store = EventStore(settings.mongodb, settings.mongodb_database)
    app = create_app(settings, name, store)
    assignment = options_of(app).assignment
    assert isinstance(assignment, WorkerAssignment)
    worker = WorkerMetrics(assignment, assignment.agents, app.transport.full)
    metrics = worker_metrics(worker)
    processes = Processes(settings, store, assignment.leases.owner, metrics)
    checks = {**worker_checks(worker), **processes.checks}
    shown_name = name_of(assignment.leases.owner)
    report = SelfReport(metrics.role, worker.work, checks, shown_name)
    try:
        async with (
            followed_where_on(settings) as keys,
            exposed(settings, metrics, checks, keys),
            answering(settings, report),
            processes.running(),
        ):
            await _run(app, assignment, stop or asyncio.Event())
    finally:
        await store.close()  # last: processes and projections use it


async def _run(app: faust.App, assignment: WorkerAssignment, stop: asyncio.Event) -> None:
    starting = asyncio.create_task(app.start())
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            ended = asyncio.create_task(app.wait_until_stopped())
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if app.crash_reason is not None:  # Faust has logged it, and stops as if asked to
                raise app.crash_reason
    finally:
        waiting.cancel()
        starting.cancel()
        await assignment.leave()  # first: it drains the partitions, for which the app must run
        await app.stop()


def __getattr__(name: str) -> faust.App:
    """`faust -A pipeline.app` finds `app` here, made from the environment's settings."""
    if name == "app":
        return create_app(load())
    raise AttributeError(name)
