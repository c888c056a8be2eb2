"""A poison event parks its account: it waits, in order, and nobody else does."""

import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pymongo
import pytest

from pipeline.banking.events import DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event
from pipeline.support.settings import Settings
from tests.bank import exact, folds, history
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.load import Load
from tests.names import STREAM, subject

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(300)]

Start = Callable[..., Awaitable[Role]]
SICK = "01J00000000000000000000000"
EVENTS = rounds(500, 10_000)


async def bank(role: Start, *words: str) -> str:
    """What a command prints; it must succeed."""
    command = await role("bank", *words)
    assert await command.wait() == 0, command.log()
    return command.log()


async def parked(role: Start) -> list[str]:
    return [each["account_id"] for each in json.loads(await bank(role, "parked", "--json"))]


async def becomes_exact(settings: Settings, store: EventStore) -> None:
    """Every document is the fold of its events, up to its poison if it has one."""
    url = settings.elasticsearch_url
    await eventually(lambda: exact(url, store), seconds=120, message="exact", every=0.3)


def poisoned(events: list[Event], at: int) -> list[Event]:
    wrong: Any = {**events[at], "kind": "MoneyPrinted"}
    return [*events[:at], wrong, *events[at + 1 :]]


def mend(settings: Settings, event: Event) -> None:
    with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as client:
        events = client[settings.mongodb_database]["events"]
        assert events.replace_one({"_id": event["_id"]}, event).matched_count == 1


@pytest.mark.drill
async def test_one_poison_event_among_many(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    workers = [await role("bank", "worker"), await role("bank", "worker")]
    load, sick = Load(store), history(SICK, 12)
    for number in range(10):
        if number == 5:
            for event in poisoned(sick, 6):
                await store.append(event)
        await load.write(EVENTS // 10)
    await becomes_exact(settings, store)
    assert (await folds(store))[SICK]["version"] == 6
    assert await parked(role) == [SICK]

    verify = await role("bank", "verify")
    assert await verify.wait(90) == 1
    assert "the document is at version 6 of 12 (parked: `bank parked show`)" in verify.log()

    for worker in workers:
        await worker.kill(signal.SIGKILL)
        await worker.start()
    more = {**history(SICK, 13)[12], "kind": DEPOSITED, "body": {"money": 1}}
    await store.append(more)  # type: ignore[arg-type]
    await load.write(EVENTS // 5)
    await becomes_exact(settings, store)
    assert await parked(role) == [SICK]

    mend(settings, sick[6])
    await bank(role, "parked", "retry", SICK)
    await becomes_exact(settings, store)
    assert (await folds(store))[SICK]["version"] == 13
    assert await parked(role) == []
    await load.write(100)
    await becomes_exact(settings, store)


@LONG_LANE
@pytest.mark.drill
async def test_what_is_retried_too_early_stays_parked(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    await role("bank", "worker")
    for event in poisoned(history(SICK, 4), 2):
        await store.append(event)
    await becomes_exact(settings, store)
    await eventually(lambda: parked(role))
    retry = await role("bank", "parked", "retry", SICK)
    assert await retry.wait() == 1
    assert "MoneyPrinted" in retry.log()
    assert await parked(role) == [SICK]


@pytest.mark.drill
async def test_strangers_in_the_stream_are_skipped(
    settings: Settings, store: EventStore, role: Start
) -> None:
    forwarder, worker = await role("bank", "forwarder"), await role("bank", "worker")
    await eventually(lambda: "Leading from" in forwarder.log())
    load = Load(store)
    await load.write(50)
    await becomes_exact(settings, store)
    js = await JetStream.connect(settings.nats_url, "stranger")
    for data in (b"", b"{", b"[]", b"null", b'{"kind": "resync?"}', b'{"account_id": []}', b"\xff"):
        for partition in range(settings.partitions):
            await js.nc.publish(subject(partition), data)
    await js.nc.flush()
    await load.write(50)
    await becomes_exact(settings, store)

    async def all_acked() -> bool:
        names = [f"{STREAM}.{STREAM}-{p}" for p in range(settings.partitions)]
        infos = [await js.api(f"CONSUMER.INFO.{name}") for name in names]
        return all(info["num_pending"] == info["num_ack_pending"] == 0 for info in infos)

    await eventually(all_acked)
    await js.close()
    assert "is no event" in worker.log()
    assert await parked(role) == []
