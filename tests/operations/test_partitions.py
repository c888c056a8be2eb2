"""The partitions as they stand: `bank partitions`, `GET /partitions` and the gauges of the lag."""

import asyncio
import itertools
import json
import math
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import aiohttp
import pymongo
import pytest
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from api.balances.app import create_app
from pipeline.banking.balance import BALANCE
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore, change_backlog, changes
from pipeline.messaging import JetStream
from pipeline.model.events import partition_of, slot_of
from pipeline.model.names import BANK
from pipeline.operations.status import reader as status_reader
from pipeline.operations.status.lag import TO_BACKFILL
from pipeline.operations.status.partitions import Partitions, PartitionStatus
from pipeline.operations.status.reader import StatusReader
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.bank import accounts, append, documents, history
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.load import Load
from tests.names import STREAM
from tests.ports import free_port
from tests.services import Client, serving

Start = Callable[..., Awaitable[Role]]

elasticsearch = pytest.mark.elasticsearch
P = 8


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[Partitions]:
    """A reader with connections of its own."""
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    connecting = asyncio.ensure_future(JetStream.connect(settings.nats_url, "status-reader"))
    watcher = StatusReader(settings, lambda: asyncio.shield(connecting), lambda: store, BALANCE)
    yield Partitions(watcher, settings.partitions)
    await watcher.close()
    await (await connecting).close()
    await store.close()


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[Partitions]:
    async with looking(settings) as reader:
        yield reader


async def statuses(reader: Partitions) -> list[PartitionStatus]:
    reading = await reader.read()
    assert reading.failed == {}
    return reading.partitions


async def quiet(reader: Partitions) -> list[PartitionStatus]:
    """Wait until nothing waits anywhere; and what was read then."""

    async def check() -> list[PartitionStatus]:
        found = await statuses(reader)
        assert all(each.lag_events == 0 and each.owner for each in found), found
        return found

    return await eventually(check, seconds=120, message="no lag")


async def at_the_end(reader: Partitions, sequence: int) -> None:
    """Wait until every position is the log's end: an idle partition's follows a little later."""

    async def check() -> bool:
        found = await statuses(reader)
        assert all(each.position == sequence for each in found), found
        return True

    await eventually(check, message=f"every position is {sequence}")


async def told(reader: Partitions, why: str) -> None:
    """Wait until the lag of every partition is unknown, and why."""

    async def check() -> list[PartitionStatus]:
        found = await statuses(reader)
        assert all(why in (each.unknown or "") for each in found), found
        return found

    for each in await eventually(check, message=why):
        assert each.lag_events is each.lag_seconds is None


@asynccontextmanager
async def asleep(*roles: Role) -> AsyncIterator[None]:
    """Processes that stand still while the block runs."""
    for each in roles:
        await each.kill(signal.SIGSTOP)
    yield
    for each in roles:
        await each.kill(signal.SIGCONT)


async def bank(role: Start, *words: str) -> tuple[int, str]:
    """A command's exit code and what it prints."""
    command = await role("bank", *words)
    return await command.wait(), command.log()


async def last(js: JetStream) -> int:
    state = await js.state(STREAM)
    assert state is not None
    return state.last


def by_partition(histories: list[list[Any]]) -> list[int]:
    counts = Counter(partition_of(event["slot"], P) for events in histories for event in events)
    return [counts[partition] for partition in range(P)]


def lags(found: list[PartitionStatus]) -> list[int | None]:
    return [each.lag_events for each in found]


# ---------------------------------------------------------------- exact


@pytest.mark.drill
@elasticsearch
async def test_what_is_not_forwarded_and_what_is_not_applied_is_counted_exactly(
    store: EventStore,
    js: JetStream,
    role: Start,
    reader: Partitions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forwarder, worker = await role("bank", "forwarder"), await role("bank", "worker", "--id", "w1")
    for each in await quiet(reader):
        assert (each.owner, each.epoch, each.lag_seconds, each.parked) == ("w1", 1, 0.0, 0)
        assert each.position is not None
        assert each.unknown is each.owner_unknown is None

    async with asleep(forwarder):
        await append(store, stored := accounts(50, 1))
        assert sum(by_partition(stored)) == 50
        found = await statuses(reader)
        assert lags(found) == by_partition(stored)
        older(found, await statuses(reader))
        with monkeypatch.context() as patch:
            patch.setattr(status_reader, "MOST", 10)
            patch.setattr(changes, "BATCH", 10)
            patch.setattr(change_backlog, "BATCH", 10)
            at_least(await statuses(reader), 10)
    await quiet(reader)
    await at_the_end(reader, await last(js))
    with monkeypatch.context() as patch:
        patch.setattr(StatusReader, "unapplied", None)  # nobody asks what comes after the end
        assert lags(await statuses(reader)) == [0] * P

    await worker.kill(signal.SIGKILL)
    before = await last(js)
    await append(store, pending := accounts(30, 2))

    async def forwarded() -> bool:
        return await last(js) >= before + 60

    await eventually(forwarded)
    assert lags(await statuses(reader)) == by_partition(pending)
    async with asleep(forwarder):
        await append(store, both := accounts(20, 1))
        assert lags(await statuses(reader)) == by_partition([*pending, *both])
        await eventually(lambda: nobody(reader), message="the leases have run out")
    await role("bank", "worker", "--id", "w2")
    assert {(each.owner, each.epoch) for each in await quiet(reader)} == {("w2", 2)}

    code, said = await bank(role, "repartition", "6")
    assert code == 0, said
    assert [each.partition for each in await quiet(reader)] == list(range(6))


def older(found: list[PartitionStatus], later: list[PartitionStatus]) -> None:
    """What waits gets older, and what does not wait has no age."""
    for one, other in zip(found, later, strict=True):
        if one.lag_events:
            assert 0 < (one.lag_seconds or 0) < (other.lag_seconds or 0)
        else:
            assert one.lag_seconds == other.lag_seconds == 0.0


def at_least(found: list[PartitionStatus], events: int) -> None:
    """So many were counted, and there are more; the oldest one is known where there is one."""
    counted = []
    for each in found:
        assert each.lag_events is None
        assert each.unknown is not None
        counted.append(int(each.unknown.removeprefix("at least ")))
        assert (each.lag_seconds is not None) == (counted[-1] > 0)
    assert sum(counted) == events


async def nobody(reader: Partitions) -> bool:
    return not any(each.owner for each in await statuses(reader))


# ---------------------------------------------------------------- not known, and why


@pytest.mark.drill
@elasticsearch
async def test_what_has_to_be_synchronised_is_unknown_until_it_is(
    settings: Settings, store: EventStore, js: JetStream, role: Start, reader: Partitions
) -> None:
    forwarder = await role("bank", "forwarder")
    worker = await role("bank", "worker", BANK_INDEX_GRACE_SECONDS="0")
    await quiet(reader)
    await append(store, accounts(40, 2))
    await quiet(reader)

    async with asleep(worker):
        await js.context.purge_stream(STREAM)
        await told(reader, TO_BACKFILL)
        await eventually(lambda: "Messages were removed" in forwarder.log())
        await told(reader, TO_BACKFILL)
    await quiet(reader)

    async with asleep(worker):
        await delete(f"{settings.elasticsearch_url}/balance-1")
        await told(reader, "there is no index")
    await quiet(reader)

    async with asleep(worker):
        async with asleep(forwarder):
            await js.context.purge_stream(STREAM)
            await told(reader, "the stream is empty")
            await js.context.delete_stream(STREAM)
            await told(reader, "there is no stream")
        await told(reader, "the checkpoint is of another index, stream")
    await quiet(reader)

    async with asleep(forwarder):
        with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as client:
            client[settings.mongodb_database].drop_collection("events")
        await store.setup()
        await told(reader, "the change stream can't go on")
    await quiet(reader)


async def delete(url: str) -> None:
    async with aiohttp.ClientSession() as http, http.delete(url) as answer:
        assert answer.status == 200, await answer.text()


@elasticsearch
async def test_looking_makes_nothing(
    settings: Settings, js: JetStream, role: Start, reader: Partitions
) -> None:
    async with serving(create_app(settings), ready=False) as client:
        for each in (await get(client))[0]:
            assert each["lag_events"] is each["lag_seconds"] is each["owner"] is None
            assert "there is no stream" in each["unknown"]
        await metrics(client)
    code, said = await bank(role, "partitions")
    assert code == 0, said
    await statuses(reader)
    streams = {each.config.name for each in await js.context.streams_info()}
    assert streams <= {BANK.happenings}, "the service keeps what happens, and nothing else"
    async with redis.asyncio.from_url(settings.redis_url) as client:
        assert await client.keys() == []
    async with (
        aiohttp.ClientSession(settings.elasticsearch_url) as http,
        http.get("/_alias") as answer,
    ):
        assert [n for n in await answer.json() if n.startswith(("balance", "bank-"))] == []
    with pymongo.MongoClient[Any](settings.mongodb_url, retryWrites=False) as mongo:
        assert settings.mongodb_database not in mongo.list_database_names()


@LONG_LANE
async def test_each_server_down_makes_unknown_what_it_knows_and_nothing_0(
    own_servers: EmbeddedServers,
) -> None:
    settings, servers = own_servers.settings, own_servers.servers
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    async with (
        Role(settings, "bank", "forwarder"),
        Role(settings, "bank", "worker", "--id", "w1"),
        serving(create_app(settings), ready=False) as client,
        looking(settings) as reader,
    ):
        await quiet(reader)
        await append(store, histories := accounts(3, 2))
        await quiet(reader)
        for (name, label), number in itertools.product(NAMES.items(), SIGNALS):
            await servers[name].kill(number)
            await unknown_while_down(client, reader, label, histories[0][0]["account_id"])
            await servers[name].kill(signal.SIGCONT)
            await servers[name].start()
            await known_again(client)
    await store.close()


SIGNALS = (signal.SIGKILL, signal.SIGSTOP)[: rounds(1, 2)]
NAMES = {
    "redis": "Redis",
    "mongodb": "MongoDB",
    "nats": "NATS",
    "elasticsearch": "Elasticsearch",
}


async def unknown_while_down(
    client: Client, reader: Partitions, label: str, account_id: str
) -> None:
    """Three readings: the server is named as the reason, in time, and documents are served."""
    reason = f"{label} does not answer"
    for _ in range(3):
        async with asyncio.timeout(20):
            reading = await reader.read()
        assert reading.failed == {label: reason}
        for each in reading.partitions:
            if label == "Redis":
                assert each.owner is None
                assert each.owner_unknown == f"{reason}; w1 had it last"
                assert (each.lag_events, each.unknown) == (0, None)
            else:
                assert each.lag_events is each.lag_seconds is None
                assert reason in (each.unknown or "")
        async with client.get(f"/{account_id}") as answer:
            assert answer.status == (503 if label == "Elasticsearch" else 200)

    async def told() -> bool:
        field = "owner_unknown" if label == "Redis" else "unknown"
        return all(reason in (each[field] or "") for each in (await get(client))[0])

    await eventually(told, message=f"{label} is named over HTTP")
    samples = await metrics(client)
    for partition in range(P):
        known = samples["bank_partition_lag_known", partition]
        assert known == (1 if label == "Redis" else 0)
        assert math.isnan(samples["bank_partition_lag_events", partition]) == (known == 0)
        assert math.isnan(samples["bank_partition_owned", partition]) == (label == "Redis")


async def known_again(client: Client) -> None:
    async def check() -> bool:
        found, _ = await get(client)
        return all(each["lag_events"] == 0 and each["owner"] == "w1" for each in found)

    await eventually(check, seconds=60, message="known again")


# ---------------------------------------------------------------- the command, HTTP, the gauges


async def get(client: Client) -> tuple[list[dict[str, Any]], str]:
    async with client.get("/partitions") as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"], await answer.text()


async def metrics(client: Client) -> dict[tuple[str, int], float]:
    """The gauges by name and partition."""
    async with client.get("/metrics") as answer:
        text = await answer.text()
    return {
        (sample.name, int(sample.labels["partition"])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "partition" in sample.labels
    }


@pytest.mark.drill
@elasticsearch
async def test_the_command_the_route_and_the_gauges_say_the_same(
    settings: Settings, store: EventStore, js: JetStream, role: Start, reader: Partitions
) -> None:
    forwarder, _ = await role("bank", "forwarder"), await role("bank", "worker", "--id", "w1")
    await quiet(reader)
    await under_load(settings, store, reader)
    await forwarder.stop()
    await at_the_end(reader, await last(js))
    await append(store, stored := accounts(30, 1))
    sick = history("01J00000000000000000000000", 1)[0]
    await ParkedAccountList(js, BALANCE).park(
        sick["account_id"], version=1, event_id=sick["_id"], kind=sick["kind"], reason="sick"
    )
    unhealthy = partition_of(slot_of(sick["account_id"]), P)
    expected = await statuses(reader)
    assert lags(expected) == by_partition(stored)
    assert [each.parked for each in expected] == [int(p == unhealthy) for p in range(P)]

    code, shown = await bank(role, "partitions", "--json")
    assert code == 0, shown
    async with serving(create_app(settings), ready=False) as client:
        over_http, _ = await get(client)
        samples = await metrics(client)
    for found in (json.loads(shown), over_http):
        ages = [each.pop("lag_seconds") for each in found]
        assert [age > 0 for age in ages] == [bool(each.lag_events) for each in expected]
        assert found == [without_age(each) for each in expected]
    for each in expected:
        p = each.partition
        assert samples["bank_partition_lag_events", p] == each.lag_events
        assert (samples["bank_partition_lag_seconds", p] > 0) == bool(each.lag_events)
        assert samples["bank_partition_lag_known", p] == 1
        assert samples["bank_partition_owned", p] == 1
        assert samples["bank_partition_epoch", p] == 1
        assert samples["bank_parked_accounts", p] == each.parked

    code, shown = await bank(role, "partitions")
    assert code == 0, shown
    header, *rows = shown.splitlines()
    columns = ["partition", "owner", "epoch", "position", "behind", "seconds", "parked"]
    assert header.split() == columns
    for row, each in zip(rows, expected, strict=True):
        cells = row.split()
        assert cells[:4] == [str(each.partition), "w1", "1", str(each.position)]
        assert (cells[4], cells[6]) == (str(each.lag_events), str(each.parked))


async def under_load(settings: Settings, store: EventStore, reader: Partitions) -> None:
    """The lag is always known, and never less than what the documents lack."""
    load = Load(store)
    async with load.steady(60):
        for _ in range(6):
            stored = load.acknowledged
            found = await statuses(reader)
            assert None not in lags(found), found
            applied = await versions(settings.elasticsearch_url)
            assert sum(each or 0 for each in lags(found)) >= stored - applied, found
    await quiet(reader)
    assert await versions(settings.elasticsearch_url) == load.acknowledged


async def versions(url: str) -> int:
    """How many events are in the documents."""
    return sum(each["version"] for each in (await documents(url)).values())


def without_age(status: PartitionStatus) -> dict[str, Any]:
    found = asdict(status)
    del found["lag_seconds"]
    return found


async def test_many_who_ask_share_a_reading(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0
    read = Partitions.read

    async def counted(self: Partitions) -> Any:
        nonlocal readings
        readings += 1
        return await read(self)

    monkeypatch.setattr(Partitions, "read", counted)
    async with serving(create_app(settings), ready=False) as client:
        texts = {text for _, text in await asyncio.gather(*(get(client) for _ in range(30)))}
    assert len(texts) == readings == 1


async def test_the_command_names_what_does_not_answer_and_shows_the_rest(
    settings: Settings, role: Start
) -> None:
    nowhere = {
        f"BANK_{name}_URL": f"{scheme}://127.0.0.1:{free_port()}"
        for name, scheme in (("NATS", "nats"), ("REDIS", "redis"), ("ELASTICSEARCH", "http"))
    }
    command = await role("bank", "partitions", **nowhere)
    assert await command.wait() == 1
    *rows, said, advice = command.log().splitlines()
    assert len(rows) == 1 + P
    assert all("unknown (NATS does not answer" in row for row in rows[1:])
    assert all("unknown (Redis does not answer)" in row for row in rows[1:])
    assert said == "bank: no answer from Elasticsearch, NATS, Redis"
    assert all(f"{name} is {url}" in advice for name, url in nowhere.items())


async def test_watching_shows_it_again_and_again_until_it_is_interrupted(
    settings: Settings, role: Start
) -> None:
    command = await role("bank", "partitions", "--watch", "--json")
    await eventually(lambda: command.log().count("\n") >= 3)
    await command.kill(signal.SIGINT)
    assert await command.wait() == 0
    assert all(len(json.loads(line)) == P for line in command.log().splitlines())
