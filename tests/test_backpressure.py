"""A server is away under load: all roles wait in bounded memory, say so once, and recover alone."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.support.retry import PATIENCE
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.harness import LONG_LANE, eventually, rounds
from tests.invariants import invariants_hold
from tests.outages import Bank, Words, memory
from tests.proxy import Answering, Fault, HttpProxy, TcpProxy, busy_items

pytestmark = pytest.mark.timeout(rounds(300, 1800))

SECONDS = rounds(4, 60)
RATE = rounds(250, 300)
GROWTH = 64 * 1024 * 1024
WORKERS, ALL = ("w1", "w2"), ("forwarder", "w1", "w2")
PATIENT = WORKERS if SECONDS > 2 * PATIENCE else ()
"""Who says that a server which took the request does not answer: nobody at once."""
LINES = {"pipeline.messaging: NATS": 4, "pipeline.tables.checkpoints: checkpoints": 4}
"""How often a role may speak of a subject in an outage, if not twice, when it begins and when it
ends: a worker has two connections to NATS, and each says both; and of the items that are refused
at random none may be a checkpoint for so long that they seem to be taken again."""


@LONG_LANE
async def test_servers_that_stop_or_die(own_servers: EmbeddedServers) -> None:
    servers = own_servers.servers
    async with Bank(own_servers.settings) as bank:
        await warm_up(bank)
        await outage(bank, "Elasticsearch dies", dead(servers["elasticsearch"]), WORKERS)
        await outage(bank, "NATS dies", dead(servers["nats"]), ALL)
        if rounds(False, True):
            await outage(bank, "Elasticsearch stops", stopped(servers["elasticsearch"]), PATIENT)
            await outage(bank, "Redis dies", dead(servers["redis"]), ALL)
            # Workers need MongoDB only to heal.
            await outage(
                bank, "MongoDB dies", dead(servers["mongodb"]), ["forwarder"], writes=False
            )
        await invariants_hold(bank.settings)


async def test_roles_that_start_before_the_servers(own_servers: EmbeddedServers) -> None:
    servers, bank = own_servers.servers.values(), Bank(own_servers.settings)

    async def start_servers() -> None:
        await eventually(lambda: all("WARNING" in role.log() for role in bank.roles.values()))
        await asyncio.gather(*(server.start() for server in servers))

    await asyncio.gather(*(server.kill() for server in servers))
    starting = asyncio.create_task(start_servers())
    async with bank:
        await starting
        async with bank.load.steady(RATE):
            await asyncio.sleep(1)
        await becomes_exact(bank)
        assert all(role.exit_code is None for role in bank.roles.values())
        await invariants_hold(bank.settings)


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_an_elasticsearch_that_is_busy_or_out_of_reach(settings: Settings) -> None:
    async with (
        TcpProxy(settings.elasticsearch_url) as line,
        HttpProxy(line.url) as proxy,
        Bank(settings, elasticsearch_url=proxy.url) as bank,
    ):
        await warm_up(bank)
        every, some = Answering(429), busy_items(0.3, seed=SECONDS)
        await outage(bank, "429 to all", faulty(proxy, every), WORKERS)
        await outage(bank, "429 for 30 % of items", faulty(proxy, some), WORKERS)
        assert every.count
        assert some.count
        await outage(bank, "hangs", hanging(line), PATIENT)
        await outage(bank, "cut off", cut(line), WORKERS)
        await invariants_hold(bank.settings)


@pytest.mark.elasticsearch
@pytest.mark.skipif(
    rounds(1, 0) == 1, reason="the long lane's: Elasticsearch's answer is given 30 s"
)
async def test_connections_that_die_without_a_word(settings: Settings) -> None:
    urls = {f"{name}_url": str(getattr(settings, f"{name}_url")) for name in SERVER_BINARIES}
    async with AsyncExitStack() as stack:
        lines = {n: await stack.enter_async_context(TcpProxy(url)) for n, url in urls.items()}
        ways = {name: line.url for name, line in lines.items()}
        ways["mongodb_url"] += "/?directConnection=true"
        bank = await stack.enter_async_context(Bank(settings, **ways))
        await warm_up(bank)
        for number in range(2):
            silence = half_open(lines.values())  # noticed one by one, as each is used
            await outage(bank, f"all die, {number}", silence, ALL, once=False)
        await invariants_hold(settings)


# -------------------------------------------------------------------- outages


@asynccontextmanager
async def stopped(server: Server) -> AsyncIterator[None]:
    await server.kill(signal.SIGSTOP)
    yield
    await server.kill(signal.SIGCONT)


@asynccontextmanager
async def dead(server: Server) -> AsyncIterator[None]:
    await server.kill()
    yield
    await server.start()


@asynccontextmanager
async def faulty(proxy: HttpProxy, fault: Fault) -> AsyncIterator[None]:
    with proxy.faulty(fault):
        yield


@asynccontextmanager
async def hanging(line: TcpProxy) -> AsyncIterator[None]:
    await line.hang()
    yield
    await line.mend()


@asynccontextmanager
async def cut(line: TcpProxy) -> AsyncIterator[None]:
    await line.cut()
    yield
    await line.mend()


@asynccontextmanager
async def half_open(lines: Iterable[TcpProxy]) -> AsyncIterator[None]:
    for line in lines:
        line.half_open()
    yield


# -------------------------------------------------------------------- one of them


async def warm_up(bank: Bank) -> None:
    """What every role needs to work at all is in its memory afterwards."""
    async with bank.load.steady(RATE):
        await asyncio.sleep(3)
    await becomes_exact(bank)


async def outage(
    bank: Bank,
    what: str,
    away: AbstractAsyncContextManager[None],
    concerns: Collection[str],
    *,
    writes: bool = True,
    once: bool = True,
) -> None:
    """Have one under load, and see that nothing is left of it."""
    words, before = Words(bank.roles), bank.load.acknowledged
    async with memory(bank.roles) as seen:
        async with bank.load.steady(RATE):
            async with away:
                written = await writing(bank)
            last = bank.load.acknowledged
            await eventually(lambda: bank.load.acknowledged > last, seconds=60)
        await becomes_exact(bank)
    await bank.settled()
    await eventually(lambda: all(map(words.of_an_end, bank.roles)), message="said to be over")
    print(f"{what}: {bank.load.acknowledged - before} events, {seen}")
    assert all(written) or not writes, f"{what}: appends stood still: {written}"
    assert await bank.acknowledged.is_stored(), what
    assert all(role.exit_code is None for role in bank.roles.values()), what
    assert seen.growth < GROWTH, f"{what}: {seen}"
    for name in bank.roles:
        said = f"{what}: {name} said\n{words.of(name)}"
        troubles = words.troubles(name)
        assert troubles or name not in concerns, said
        assert not once or all(n <= LINES.get(each, 2) for each, n in troubles.items()), said
        assert "Traceback" not in said


async def writing(bank: Bank) -> list[int]:
    """Let the time of the outage pass; what was acknowledged in each third of it."""
    counts = [bank.load.acknowledged]
    for _ in range(3):
        await asyncio.sleep(SECONDS / 3)
        counts.append(bank.load.acknowledged)
    return [after - before for before, after in itertools.pairwise(counts)]


async def becomes_exact(bank: Bank) -> None:
    url = bank.settings.elasticsearch_url
    await eventually(lambda: exact(url, bank.store), seconds=180, every=0.5, message="exact")
