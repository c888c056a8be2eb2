"""A worker's assignment: its share of the partitions in force, whatever their number becomes.

When the number changes, the worker releases all partitions and starts again with the new number in
the same process: projection runners, leases, feeds. Nothing is lost by that: the forwarder changes
the number only after every partition is drained.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

from pipeline.agents.projection_agent import ProjectionAgent
from pipeline.agents.projection_runner import ProjectionRunner
from pipeline.agents.rebuild.agent import RebuildAgent
from pipeline.bridge import Assign
from pipeline.coordination.ownership import Ownership
from pipeline.coordination.partition_leases import PartitionLeases
from pipeline.coordination.partitioning import Partitioning, ensure_log, partitioning
from pipeline.coordination.repartition_requests import RepartitionRequests
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.search import SharedClient, connect
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings
from pipeline.tables.epochs import owner_of

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25


class _Servers(NamedTuple):
    """Connections that all projections of the worker share."""

    js: JetStream
    elasticsearch: SharedClient


class WorkerAssignment(Ownership):
    """Ownership by leases, which gives each agent a projection runner."""

    def __init__(
        self,
        settings: Settings,
        agents: Sequence[ProjectionAgent],
        owner: str,
        app: Any,
        store: EventStore,
    ) -> None:
        leases = PartitionLeases(settings.redis, owner, settings.lease_seconds)
        super().__init__(leases, self._last_owner)
        self._settings, self._app, self._store = settings, app, store
        self.agents = agents

    async def run(self, assign: Assign, partitions: int) -> None:
        """Own a share until cancelled. `partitions`: the number the stream was created with."""
        async with _connected(self._settings, self.leases.owner) as servers:
            self.js = servers.js
            try:
                while not self.leaving:
                    await self._own_share(await self._in_force(servers.js), assign, servers)
            finally:
                await self.resign()
        await asyncio.Event().wait()

    async def _own_share(self, now: Partitioning, assign: Assign, servers: _Servers) -> None:
        """Own a share of these partitions, until their number changes or the worker leaves."""
        self._app.transport.repartitioned(servers.js.names.log, now.count)
        async with AsyncExitStack() as opened:
            for agent in self.agents:
                await opened.enter_async_context(self._run_agent(agent, now, servers))
            async with running(self._watch(now, servers.js)):
                await self.keep(assign, now.count)

    @asynccontextmanager
    async def _run_agent(
        self, agent: ProjectionAgent, now: Partitioning, servers: _Servers
    ) -> AsyncIterator[None]:
        async with (
            self._runner(agent, now, servers) as runner,
            RebuildAgent(self._settings, runner),
        ):
            agent.runner = runner
            try:
                yield
            finally:
                agent.runner = None

    def _runner(
        self, agent: ProjectionAgent, now: Partitioning, servers: _Servers
    ) -> ProjectionRunner:
        return ProjectionRunner(
            self._settings,
            store=self._store,
            js=servers.js,
            source=agent.source,
            partitioning=now,
            owner=self.leases.owner,
            projection=agent.projection,
            counters=agent.counters,
            shared=servers.elasticsearch,
        )

    async def _watch(self, now: Partitioning, js: JetStream) -> None:
        """Release all partitions when their number changes."""
        found: Partitioning | None = now
        # A forwarder that has changed the number says so in its answer to the request.
        async with RepartitionRequests(js).news() as news:
            while found is None or found.same_as(now):
                await news.wait(POLL_SECONDS)
                with suppress(Exception):  # JetStream is down, which others log
                    found = await partitioning(js)
        log.info("%d -> %d partitions after %d: starting again", now.count, found.count, found.at)
        self.release_all()

    async def _in_force(self, js: JetStream) -> Partitioning:
        """The partitioning in force; waits while JetStream is down."""
        outage = Outage(log, "The stream")
        return await outage.retry_forever(lambda: ensure_log(js, self._settings))

    async def _last_owner(self, partition: int) -> str | None:
        if self.js is None:
            return None
        return await owner_of(self.js, self.agents[0].projection, partition)


@asynccontextmanager
async def _connected(settings: Settings, owner: str) -> AsyncIterator[_Servers]:
    async with AsyncExitStack() as opened:
        js = await JetStream.connect(settings.nats, f"worker {owner}")
        opened.push_async_callback(js.close)
        elasticsearch = SharedClient(connect(settings.elasticsearch))
        opened.push_async_callback(elasticsearch.close)
        yield _Servers(js, elasticsearch)
