"""Every stream and bucket has the replicas that BANK_STREAM_REPLICAS asks for, or it is told."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from pipeline.banking.balance import BALANCE
from pipeline.coordination.partitioning import ensure_log
from pipeline.coordination.repartition_requests import RepartitionRequests
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, ensure_changelog
from pipeline.messaging.replicas import Replicas, all_replicas, replicas_of
from pipeline.operations import audit, keys, timeline
from pipeline.operations.feed.position import Position
from pipeline.operations.feed.subscriptions import Subscriptions
from pipeline.support.settings import Settings
from pipeline.tables.epochs import raise_epoch
from pipeline.tables.parked_accounts import ParkedAccountList
from pipeline.tables.rebuild_jobs import RebuildJobs
from tests.agents.test_parking import SICK, becomes_exact, poisoned
from tests.bank import history
from tests.cluster.asking import bank, readiness
from tests.cluster.nats import NatsCluster
from tests.fleet import Fleet
from tests.harness import Role, eventually
from tests.load import Load
from tests.names import STREAM
from tests.ports import free_port

Start = Callable[..., Awaitable[Role]]

ALL = {
    "KV_bank",
    "KV_key-uses",
    "KV_keys",
    "KV_parked",
    "KV_parked-statement",
    "KV_partitions",
    "KV_partitions-statement",
    "KV_rebuild",
    "KV_subscriptions",
    "audit",
    "balance",
    "bank-activity-changelog",
    "happenings",
}
"""What a bank makes that has keys, a subscription and a balance service, had an account parked, was
rebuilt and repartitioned."""


async def names(js: JetStream) -> set[str]:
    """Everything there is, whosever it is."""
    return set((await js.api("STREAM.NAMES"))["streams"])


async def have(js: JetStream, count: int) -> list[Replicas]:
    """All of the bank's, once each has so many replicas that have everything."""

    async def current() -> list[Replicas]:
        found = await all_replicas(js)
        return found if all(each.are(count) for each in found) else []

    return await eventually(current, message=f"{count} replicas of everything")


async def consumers_have(js: JetStream, count: int) -> bool:
    """Whether so many servers have each consumer of the log."""
    listed = (await js.api(f"CONSUMER.LIST.{STREAM}"))["consumers"]
    found = [each["cluster"] for each in listed]
    return bool(found) and all(
        each.get("leader") and 1 + len(each.get("replicas") or []) == count for each in found
    )


async def test_whoever_makes_a_stream_makes_it_with_the_replicas_asked_for(
    settings: Settings, js: JetStream
) -> None:
    made = await JetStream.connect(settings.nats, "maker")
    try:
        await ensure_log(made, settings)
        await ensure_changelog(made, "bank-activity-changelog")
        await audit.ensure(made, settings)
        await timeline.ensure(made)
        await raise_epoch(made, BALANCE, 0, "w1", 0)
        await RepartitionRequests(made).ask(4, 1)
        await RebuildJobs(made, BALANCE).start("online", [0], 8)
        await ParkedAccountList(made, BALANCE).park(
            SICK, version=1, event_id="", kind="", reason=""
        )
        await keys.bucket(made).put("k", {})
        await keys.use(made, "k", "2026-01-01")
        await Subscriptions(made).put("billing", Position("0", 0), revision=0)
    finally:
        await made.close()
    found = await have(js, 3)
    assert {each.stream for each in found} == await names(js)
    assert {each.stream for each in found} == {n for n in ALL if not n.endswith("-statement")}


@pytest.mark.cluster
@pytest.mark.timeout(900)
async def test_a_whole_bank_has_three_of_everything(
    settings: Settings, store: EventStore, role: Start, js: JetStream
) -> None:
    settings = settings.model_copy(update={"projections": "balance statement", "keys": "on"})
    code, said = await bank(settings, "keys", "create", "--role", "teller", "--name", "me")
    assert code == 0, said
    token = next(word for word in said.split() if word.startswith("bank_"))
    async with (
        Role(settings, "bank", "forwarder") as forwarder,
        Role(settings, "bank", "worker"),
        Role(settings, "bank", "accounts") as accounts,
    ):
        await eventually(lambda: "Leading from" in forwarder.log())
        for event in poisoned(history(SICK, 5), 3):
            await store.append(event)
        await eventually(lambda: opened(settings, token), message=accounts.log())
        await becomes_exact(settings, store)
        for words in (["rebuild", "--wait"], ["repartition", "4"]):
            code, said = await bank(settings, *words)
            assert code == 0, said
        made = await JetStream.connect(settings.nats, "maker")
        await timeline.ensure(made)
        await Subscriptions(made).put("billing", Position("0", 0), revision=0)
        await made.close()
        await eventually(lambda: everything(js))
        found = await have(js, 3)
        assert {each.stream for each in found} == ALL == await names(js)
        await eventually(lambda: consumers_have(js, 3))
        code, said = await bank(settings, "replicas")
        assert code == 0, said


async def everything(js: JetStream) -> bool:
    return await names(js) >= ALL


async def opened(settings: Settings, token: str) -> bool:
    """Whether an account could be opened with the key."""
    url = f"http://127.0.0.1:{settings.accounts_port}"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(url, headers=headers) as http,
        http.post("/create", json={"owner": "Ada", "money": 1}) as answer,
    ):
        return answer.status == 201


@pytest.mark.cluster
@pytest.mark.timeout(900)
async def test_raised_and_lowered_under_load(
    settings: Settings, three: NatsCluster, store: EventStore, role: Start, js: JetStream
) -> None:
    """A bank made with one replica. With three, a server and a worker may go at the same time."""
    port, load, fleet = free_port(), Load(store), Fleet(settings, role)
    fleet.environ = one = {"BANK_STREAM_REPLICAS": "1", "BANK_METRICS_PORT": "0"}
    forwarder = await role("bank", "forwarder", **{**one, "BANK_METRICS_PORT": str(port)})
    await eventually(lambda: "Leading from" in forwarder.log())
    await fleet.join(2)
    await fleet.has(4, 4)
    assert (await readiness(port)) == {"http": 200, "status": "ok"}, "one is what it asks for"
    await forwarder.stop()
    await role("bank", "forwarder", BANK_METRICS_PORT=str(port))

    async def warned() -> dict[str, Any]:
        said = await readiness(port)
        return said if said.get("warnings") else {}

    said = await eventually(warned)
    assert said["http"] == 200
    assert "BANK_STREAM_REPLICAS is 3, but KV_partitions has 1, " in said["warnings"][0]
    assert "`bank replicas 3`" in said["warnings"][0]
    code, shown = await bank(settings, "replicas")
    assert code == 1
    assert "not all have as many as BANK_STREAM_REPLICAS asks for, 3" in shown

    async with load.steady(100):
        await load.more(100)
        code, shown = await bank(settings, "replicas", "3")
        assert code == 0, shown
        assert "streams and buckets have 3 replicas each" in shown
        await have(js, 3)
        await eventually(lambda: consumers_have(js, 3))
        assert await readiness(port) == {"http": 200, "status": "ok"}
        await load.more(100)
        away = await three.leader(js, "KV_partitions")
        await asyncio.gather(away.kill(), fleet.kill("w1"))
        await fleet.has(8)
        await load.more(100)
    await becomes_exact(settings, store)
    await away.start()
    async with load.steady(100):
        code, shown = await bank(settings, "replicas", "1")
        assert code == 0, shown
        assert "BANK_STREAM_REPLICAS is 3 here: set it to 1 for every role" in shown
        await have(js, 1)
        await load.more(100)
    await becomes_exact(settings, store)
    assert await store.count() == load.acknowledged
    assert fleet.workers["w2"].exit_code is None
    await fleet.close()


@pytest.mark.cluster
async def test_what_can_not_be_had_is_explained_and_what_was_begun_goes_on(
    settings: Settings, three: NatsCluster, role: Start, js: JetStream
) -> None:
    await ensure_log(js, settings)
    await raise_epoch(js, BALANCE, 0, "w1", 0)
    code, said = await bank(settings, "replicas", "5")
    assert code == 1
    assert "KV_partitions: no suitable peers for placement (10005)" in said
    assert "0 of 3 streams and buckets have 5 replicas, the others are as they were" in said
    assert "5 servers with JetStream must be up in one cluster, and have room" in said

    code, said = await bank(settings, "replicas", "3")
    assert code == 0, said
    leads = await three.leader(js, "KV_partitions")
    frozen = next(s for s in three.servers.values() if s is not leads and s.url != three.url)
    await frozen.kill(signal.SIGSTOP)
    await eventually(lambda: two_current(js))
    waits = await role("bank", "replicas", "3")
    await eventually(lambda: "2 of 3" in waits.log())
    await waits.kill(signal.SIGINT)
    assert await waits.wait() == 130
    assert "interrupted: " in waits.log()
    assert "`bank replicas 3` goes on" in waits.log()
    waits = await role("bank", "replicas", "3")
    await frozen.kill(signal.SIGCONT)
    assert await waits.wait(180) == 0, waits.log()
    code, said = await bank(settings, "replicas", "--json")
    assert code == 0, said
    assert {each["stream"] for each in json.loads(said)} == {"KV_partitions", STREAM, "audit"}
    assert all(each["count"] == each["current"] == 3 for each in json.loads(said))


async def two_current(js: JetStream) -> bool:
    return (await replicas_of(js, "KV_partitions")).current == 2
