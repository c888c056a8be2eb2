"""A bank of two workers that see the servers through proxies, and all that can be seen of it."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pipeline.banking.balance import BALANCE
from pipeline.coordination.partition_leases import name_of
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.search import Elastic, FoundDocument, Generation
from pipeline.support.settings import Settings
from pipeline.tables.checkpoint import checkpoint_id
from tests.bank import documents, exact
from tests.fleet import Fleet
from tests.harness import Role, eventually
from tests.invariants import Acknowledged, invariants_hold
from tests.load import Load
from tests.names import ALIAS, STREAM
from tests.proxy import HttpProxy, TcpProxy

Start = Callable[..., Awaitable[Role]]


class Stage:
    """Worker w1 sees every server through a proxy, w2 Elasticsearch alone; each has half of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ways = HttpProxy(settings.elasticsearch_url), HttpProxy(settings.elasticsearch_url)
        self.nats, self.redis = TcpProxy(settings.nats_url), TcpProxy(settings.redis_url)
        self.elastic = Elastic(settings.elasticsearch_url)
        self.store = EventStore(settings.mongodb_url, settings.mongodb_database)
        self.told = Acknowledged(self.store)
        self.load = Load(self.told)
        self.half = settings.partitions // 2
        self.js: JetStream
        self.fleet: Fleet
        self.w1: Role
        self.w2: Role

    async def begin(self, stack: AsyncExitStack, role: Start) -> None:
        """Start it all on the stack, and wait until it is settled."""
        for proxy in (*self.ways, self.nats, self.redis):
            await stack.enter_async_context(proxy)
        self.js = await JetStream.connect(self.settings.nats_url, "stage")
        self.fleet = Fleet(self.settings, role)
        for opened in (self.js, self.fleet, self.elastic, self.store):
            stack.push_async_callback(opened.close)
        await self.store.setup()
        forwarder = await role("bank", "forwarder")
        await eventually(lambda: "Leading from" in forwarder.log())
        first, second = ({"BANK_ELASTICSEARCH_URL": way.url} for way in self.ways)
        first |= {"BANK_NATS_URL": self.nats.url, "BANK_REDIS_URL": self.redis.url}
        self.w1 = await role("bank", "worker", "--id", "w1", **first)
        self.w2 = await role("bank", "worker", "--id", "w2", **second)
        await self.shared()

    # ---------------------------------------------------------------- who has what

    async def shared(self) -> None:
        """Wait until each worker has its half, and claims it."""
        self.fleet.workers = {"w1": self.w1, "w2": self.w2}
        await self.fleet.has(self.half, self.half)
        await eventually(self._claimed_by_owners, message="claimed by the owners")

    async def freeze(self) -> None:
        """Stop w1, and wait until w2 has all partitions and claims them."""
        await self.w1.kill(signal.SIGSTOP)
        await self.all_taken()

    async def all_taken(self) -> None:
        """Wait until w2 has all partitions and claims them."""
        self.fleet.workers = {"w2": self.w2}
        await self.fleet.has(self.settings.partitions)
        await eventually(self._claimed_by_owners, message="claimed by w2")

    async def claimants(self) -> list[str]:
        """Names of those who wrote the checkpoints, by partition."""
        return [name_of(found.source["owner"]) for found in await self.claims()]

    async def _claimed_by_owners(self) -> bool:
        return await self.claimants() == await self.fleet.owners()

    # ---------------------------------------------------------------- what can be seen

    async def claims(self) -> list[FoundDocument]:
        """The checkpoints by partition, as they are now."""
        count = self.settings.partitions
        ids = [
            checkpoint_id(Generation(1, "", BALANCE), partition, count)
            for partition in range(count)
        ]
        found = await self.elastic.mget(ALIAS, ids)
        return [found[each] for each in ids]

    async def all_seen(self) -> tuple[dict[str, FoundDocument], list[FoundDocument]]:
        """Every document and every checkpoint, each with its `_version` and `_seq_no`."""
        ids = list(await documents(self.settings.elasticsearch_url))
        return await self.elastic.mget("balance", ids), await self.claims()

    async def consumers(self) -> list[dict[str, Any]]:
        """What JetStream tells of each partition's consumer."""
        names = [f"{STREAM}.{STREAM}-{p}" for p in range(self.settings.partitions)]
        return [await self.js.api(f"CONSUMER.INFO.{name}") for name in names]

    async def quiet(self) -> None:
        """Wait until all is shown, claimed and acked, and nothing moves any more."""
        url = self.settings.elasticsearch_url
        await eventually(lambda: exact(url, self.store), seconds=120, message="exact")
        await eventually(self._claimed_to_the_end, message="claimed to the end")
        await eventually(self._acked_without_a_gap, message="acked without a gap")

    async def ends_well(self) -> None:
        """Wait until it is quiet; then every invariant that can be judged holds."""
        await self.quiet()
        await invariants_hold(self.settings)
        assert await self.told.is_stored()
        assert (self.w1.exit_code, self.w2.exit_code) == (None, None)

    async def _claimed_to_the_end(self) -> bool:
        state = await self.js.state(STREAM)
        assert state is not None
        return {found.source["sequence"] for found in await self.claims()} == {state.last}

    async def _acked_without_a_gap(self) -> bool:
        waiting = ("num_pending", "num_ack_pending", "num_redelivered")
        return all(
            each["ack_floor"]["consumer_seq"] == each["delivered"]["consumer_seq"]
            and not any(each[number] for number in waiting)
            for each in await self.consumers()
        )


@asynccontextmanager
async def staged(settings: Settings, role: Start) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        stage = Stage(settings)
        await stage.begin(stack, role)
        yield stage
