"""A whole bank under load, while the servers of its log are killed, frozen, wiped and restarted.

Each fault prints for how long nothing was forwarded and nothing new was shown, and records it as a
property of the test; docs/reliability.md has them in a table.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.embedded.server import Server
from pipeline.messaging import JetStream
from pipeline.messaging.replicas import all_replicas
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.cluster.jetstream import stalls
from tests.cluster.nats import NatsCluster
from tests.cluster.whole_bank import WholeBank
from tests.harness import Role, eventually
from tests.names import STREAM

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SECONDS = 120.0

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole bank with clients, on three nats-servers."""

    bank: WholeBank
    cluster: NatsCluster
    js: JetStream
    record: Record

    @asynccontextmanager
    async def goes_on_after(self, fault: str) -> AsyncIterator[None]:
        """The block does harm; wait until all goes on, and tell how long that took."""
        since = time.time()
        yield
        await self.bank.shown.more()
        until = time.time()
        forwarded = await eventually(
            lambda: stalls.forwarded(self.js, self.cluster, since, until), seconds=SECONDS
        )
        shown = stalls.shown(self.bank.shown.at, self.cluster, since, until)
        told = f"nothing was forwarded for {forwarded}; nothing was shown for {shown}"
        print(f"{fault}: {told}")
        self.record(fault, told)

    async def leader(self) -> Server:
        return await self.cluster.leader(self.js, STREAM)

    async def back(self) -> None:
        """Start the servers that do not run, and wait until all of them have everything."""
        await self.cluster.start()
        await eventually(self._is_whole, seconds=SECONDS, message="three of everything")

    async def _is_whole(self) -> bool:
        return all(each.are(3) for each in await all_replicas(self.js))


@pytest.fixture
def settings(settings: Settings, three: NatsCluster) -> Settings:
    """With a list of hosts, and a real bank's lease, by which pull requests expire."""
    told = {"nats_url": three.urls, "projections": "balance statement", "partitions": 4}
    return settings.model_copy(update={**told, "lease_seconds": 10, "rebuild_grace_seconds": 1})


@asynccontextmanager
async def begun(
    settings: Settings, three: NatsCluster, js: JetStream, record: Record
) -> AsyncIterator[Scene]:
    """At its end everything is judged."""
    async with WholeBank(settings) as bank:
        async with bank.commanded():
            scene = Scene(bank, three, js, record)
            await scene.back()
            yield scene
            await scene.back()
        await bank.holds(three.url)


async def the_leader_is_killed(scene: Scene) -> None:
    async with scene.goes_on_after("leader of the log killed"):
        await (await scene.leader()).kill()


async def the_leader_is_frozen(scene: Scene) -> None:
    leader = await scene.leader()
    async with scene.goes_on_after("leader of the log frozen"):
        await leader.kill(signal.SIGSTOP)
    async with scene.goes_on_after("it is thawed"):
        await leader.kill(signal.SIGCONT)


async def the_leader_is_wiped(scene: Scene) -> None:
    leader = await scene.leader()
    async with scene.goes_on_after("leader of the log killed and wiped"):
        await scene.cluster.wipe(leader)
    async with scene.goes_on_after("it is back"):
        await leader.start()


async def all_are_restarted_in_turn(scene: Scene) -> None:
    for server in scene.cluster.servers.values():
        async with scene.goes_on_after(f"{server.name} restarted"):
            await server.stop()
            await scene.back()


async def each_role_loses_its_server(scene: Scene) -> None:
    for name, role in scene.bank.roles.items():
        if name != "accounts":  # which knows MongoDB alone
            server = await eventually(partial(scene.cluster.server_of, role.pid))
            assert server is not None
            async with scene.goes_on_after(f"server of {name} killed"):
                await server.kill()
            await scene.back()


FAULTS = [
    the_leader_is_killed,
    the_leader_is_frozen,
    the_leader_is_wiped,
    all_are_restarted_in_turn,
    each_role_loses_its_server,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_whole_bank_goes_on(
    settings: Settings,
    three: NatsCluster,
    js: JetStream,
    record_property: Record,
    fault: Callable[[Scene], Awaitable[None]],
) -> None:
    async with begun(settings, three, js, record_property) as scene:
        await fault(scene)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_a_rebuild_is_followed_over_the_loss_of_a_leader(
    settings: Settings,
    three: NatsCluster,
    js: JetStream,
    record_property: Record,
    number: signal.Signals,
) -> None:
    """Of the log, and of the bucket that has the rebuild."""
    slow = settings.model_copy(update={"rebuild_rate": 100.0})
    async with begun(slow, three, js, record_property) as scene:
        for leads in (STREAM, "KV_rebuild"):
            async with Role(settings, "bank", "rebuild", "--wait") as command:
                await eventually(lambda: is_building(js), seconds=SECONDS)
                victim = await three.leader(js, leads)
                async with scene.goes_on_after(f"leader of {leads} lost in a rebuild"):
                    await victim.kill(number)
                assert await command.wait(SECONDS) == 0, command.log()
                await victim.kill(signal.SIGCONT)
                await scene.back()


async def test_a_rebuild_is_followed_while_two_are_away(
    settings: Settings, three: NatsCluster, js: JetStream, record_property: Record
) -> None:
    """MongoDB takes commands; nothing that needs the log is done until one of them is back."""
    async with AsyncExitStack() as stack:
        scene = await stack.enter_async_context(begun(settings, three, js, record_property))
        workers = scene.bank.workers.values()
        for worker in workers:  # or it may be done before the servers are away
            await worker.kill(signal.SIGSTOP)
        rebuild = Role(settings, "bank", "rebuild", "--wait")
        command = await stack.enter_async_context(rebuild)
        await eventually(lambda: phase(js), seconds=SECONDS, message="a rebuild is asked for")
        leader = await scene.leader()
        other = next(each for each in three.servers.values() if each is not leader)
        await asyncio.gather(leader.kill(), other.kill())
        for worker in workers:
            await worker.kill(signal.SIGCONT)
        acknowledged = scene.bank.history.counts()["acknowledged"]
        await eventually(
            lambda: scene.bank.history.counts()["acknowledged"] > acknowledged + 300,
            seconds=SECONDS,
            message="MongoDB takes commands",
        )

        def says_so() -> bool:
            assert "asking again" in command.log(), command.log()
            return True

        await eventually(says_so, seconds=SECONDS)
        assert command.exit_code is None, command.log()
        async with scene.goes_on_after("two of three are back"):
            await asyncio.gather(leader.start(), other.start())
        assert await command.wait(SECONDS) == 0, command.log()


async def is_building(js: JetStream) -> bool:
    return await phase(js) == "building"


async def phase(js: JetStream) -> str | None:
    """Of the rebuild that is asked for; None if there is none."""
    jobs = RebuildJobs(js, BALANCE)
    await jobs.refresh()
    return jobs.current.phase if jobs.current is not None else None
