"""From the event store to the projection: roles as processes, killed under load."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from pipeline.banking.events import KINDS
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.messaging.changelog_subjects import key_in
from pipeline.support.settings import Settings
from tests.bank import exact
from tests.harness import LONG_LANE, Role, eventually, rounds, some_of
from tests.load import Load
from tests.names import STREAM

Start = Callable[..., Awaitable[Role]]


async def started(role: Start) -> Role:
    """A forwarder that leads and a worker that has its partitions; returns the worker.

    What is stored before a stream's first marker never goes through the stream.
    """
    forwarder, worker = await role("bank", "forwarder"), await role("bank", "worker")
    await eventually(lambda: "Leading from" in forwarder.log())
    await eventually(lambda: takings(worker) >= 8)
    return worker


def takings(worker: Role) -> int:
    """How many partitions the worker's processes have taken so far."""
    return worker.log().count("goes on after")


async def taken_again(worker: Role, before: int) -> None:
    """Wait until a restarted worker has taken all 8 partitions."""
    await eventually(lambda: takings(worker) >= before + 8)


async def becomes_exact(settings: Settings, store: EventStore, seconds: float = 90) -> None:
    """Wait until the projection is exactly the fold of the store."""
    url = settings.elasticsearch_url
    await eventually(lambda: exact(url, store), seconds=seconds, message="exact")


async def pause(seconds: float) -> None:
    """Let the load run; what is asserted later does not depend on how long."""
    await asyncio.sleep(seconds)


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_worker_killed_under_load_ends_exact(
    settings: Settings, store: EventStore, role: Start
) -> None:
    worker, load = await started(role), Load(store)
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    async with load.steady():
        for _ in range(rounds(2, 10)):
            await pause(chance.uniform(0.2, 1.5))
            await worker.kill(signal.SIGKILL)
            before = takings(worker)
            await worker.start()
            await taken_again(worker, before)
    await becomes_exact(settings, store)
    assert await store.count() == load.acknowledged


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_a_worker_that_leaves_hands_all_over(
    settings: Settings, store: EventStore, role: Start
) -> None:
    """SIGTERM drains: what was handed over is applied and acked, and the worker ends by itself."""
    worker, load = await started(role), Load(store)
    await load.write(200)
    await becomes_exact(settings, store)
    async with load.steady():
        await pause(1)
        assert await worker.stop() == 0
        assert "Not all was done" not in worker.log()
        await worker.start()
    await becomes_exact(settings, store)


@pytest.mark.elasticsearch
@pytest.mark.parametrize(
    "harm", ["deleted", pytest.param("purged", marks=[pytest.mark.drill, LONG_LANE])]
)
async def test_a_stream_lost_behind_a_running_system_heals(
    settings: Settings, store: EventStore, role: Start, js: JetStream, harm: str
) -> None:
    await started(role)
    load = Load(store)
    await load.write(200)
    await becomes_exact(settings, store)
    async with load.steady():
        await pause(1)
        await js.api(f"STREAM.{'PURGE' if harm == 'purged' else 'DELETE'}.{STREAM}")
        await pause(2)
    await becomes_exact(settings, store)
    await load.write(50)
    await becomes_exact(settings, store)


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_accounts_never_touched_again_after_a_purge_are_exact(
    settings: Settings, store: EventStore, role: Start, js: JetStream
) -> None:
    worker, load = await started(role), Load(store)
    await load.write(100)
    await becomes_exact(settings, store)
    await worker.kill(signal.SIGKILL)
    await load.write(300)
    await eventually(lambda: holds(js, 400))
    await js.api(f"STREAM.PURGE.{STREAM}")
    await worker.start()
    await becomes_exact(settings, store)
    assert "backfilling from the event store" in worker.log()


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_what_the_nats_cli_shows_moves(
    settings: Settings, store: EventStore, role: Start, js: JetStream
) -> None:
    """Stream `balance`, consumers `balance-{p}`: pending and ack floor tell the true lag."""
    worker, load = await started(role), Load(store)
    await load.write(300)
    await becomes_exact(settings, store)

    async def settled() -> bool:
        infos = [await consumer(js, p) for p in range(settings.partitions)]
        return all(info["num_pending"] == info["num_ack_pending"] == 0 for info in infos)

    await eventually(settled)
    before = [await consumer(js, p) for p in range(settings.partitions)]
    assert all(info["config"]["priority_policy"] == "pinned_client" for info in before)
    await worker.stop()
    await load.write(200)
    await eventually(lambda: holds(js, 500))
    waiting = [await consumer(js, p) for p in range(settings.partitions)]
    assert sum(info["num_pending"] for info in waiting) == 200
    assert [info["ack_floor"] for info in waiting] == [info["ack_floor"] for info in before]
    await worker.start()
    await eventually(settled)
    floors = [info["ack_floor"]["stream_seq"] for info in before]
    after = [(await consumer(js, p))["ack_floor"]["stream_seq"] for p in range(len(before))]
    assert all(new >= old for new, old in zip(after, floors, strict=True))
    assert sum(after) > sum(floors)


@LONG_LANE
@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_activity_counts_events_by_kind_and_minute(
    settings: Settings, store: EventStore, role: Start, js: JetStream
) -> None:
    worker, load = await started(role), Load(store)
    await load.write(300)
    await eventually(lambda: counted(js, 300))
    await worker.stop()
    await load.write(100)
    await worker.start()
    await eventually(lambda: counted(js, 400), message="the table was recovered, and counts on")


# `test_backpressure.py` kills each server under load.
@pytest.mark.parametrize("server", some_of(SERVER_BINARIES, "elasticsearch"))
async def test_a_server_killed_under_load_ends_exact(
    own_servers: EmbeddedServers, server: str
) -> None:
    settings = own_servers.settings
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    load = Load(store)
    async with Role(settings, "bank", "forwarder"), Role(settings, "bank", "worker") as worker:
        await load.write(100)
        await becomes_exact(settings, store)
        async with load.steady(200):
            for _ in range(rounds(1, 4)):
                await pause(1)
                await own_servers.servers[server].kill()
                await pause(1)
                await own_servers.servers[server].start()
                await pause(1)
        await becomes_exact(settings, store)
        assert worker.exit_code is None
    assert await store.count() == load.acknowledged
    await store.close()


async def consumer(js: JetStream, partition: int) -> dict[str, Any]:
    return await js.api(f"CONSUMER.INFO.{STREAM}.{STREAM}-{partition}")


async def holds(js: JetStream, events: int) -> bool:
    """The stream holds that many messages beside markers and tokens, or more."""
    state = await js.state(STREAM)
    return state is not None and state.messages >= events


async def counted(js: JetStream, events: int) -> bool:
    """The changelog of the table `activity`, read as it is in JetStream, sums up to that."""
    state = await js.state("bank-activity-changelog")
    found = 0
    for sequence in range(max(1, state.first), state.last + 1) if state else ():
        try:
            message = await js.context.get_msg("bank-activity-changelog", sequence)
        except NotFoundError:  # the stream keeps the last of each key
            continue
        key = key_in(message.subject or "")
        assert any(kind.encode() in key for kind in KINDS)
        if b":events" in key:
            found += int(message.data or b"0")
    return found == events
