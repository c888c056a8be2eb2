"""The last hour by minute and kind: what the workers counted, and nothing that is older."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from api.balances.app import create_app
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream, StoredMessage, stream_reader
from pipeline.messaging.changelog_subjects import encode_key
from pipeline.support.settings import Settings
from pipeline.tables.activity_reader import MINUTES, ActivityReader
from tests.bank import accounts, append
from tests.harness import Role, eventually
from tests.names import CHANGELOG
from tests.services import Client, problem, serving

NOW = 1_767_225_630.0  # half a minute past midnight
MINUTE = 1_767_225_600
AT = "2026-01-01T00:00:00.000Z"


@pytest.fixture
async def table(js: JetStream) -> Callable[..., Awaitable[None]]:
    """Writes as the table does: `await table("3:MoneyDeposited:events", MINUTE, 7)`."""
    await js.ensure_stream(CHANGELOG, [f"{CHANGELOG}.*.>"], max_msgs_per_subject=1)

    async def write(name: str, minute: int, value: object) -> None:
        key = encode_key(orjson.dumps([name, [minute, minute + 59.9]]))
        data = b"" if value is None else orjson.dumps(value)
        await js.context.publish(f"{CHANGELOG}.{name.partition(':')[0]}.{key}", data)

    return write


async def activity(client: Client) -> dict[str, Any]:
    async with client.get("/activity") as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_where_nothing_was_ever_counted(settings: Settings) -> None:
    async with serving(create_app(settings), ready=False) as client:
        found = await activity(client)
    assert (found["has_more"], found["approximate"]) == (False, True)
    assert len(found["data"]) == MINUTES
    assert not any(each["kinds"] for each in found["data"])
    minutes = [each["minute"] for each in found["data"]]
    assert minutes == sorted(set(minutes))
    assert all(each.endswith(":00.000Z") for each in minutes)


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_what_a_worker_reads_is_counted(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    await store.setup()
    histories = accounts(20, 4)
    expected: Counter[tuple[str, str]] = Counter()
    for event in (each for events in histories for each in events):
        body: dict[str, Any] = dict(event["body"])
        expected[event["kind"], "events"] += 1
        expected[event["kind"], "money"] += body.get("money", 0)
    await role("bank", "forwarder")
    await role("bank", "worker")
    async with serving(create_app(settings), ready=False) as client:
        # What was stored before the log began is read from the store, and not counted.
        await eventually(lambda: applied(client), seconds=120, message="the log has begun")
        await append(store, histories)

        async def counted() -> bool:
            found: Counter[tuple[str, str]] = Counter()
            for each in (await activity(client))["data"]:
                for kind, figures in each["kinds"].items():
                    for name, number in figures.items():
                        found[kind, name] += number
            assert found == expected
            return True

        await eventually(counted, seconds=120)
    await store.close()


async def applied(client: Client) -> bool:
    async with client.get("/partitions") as answer:
        return all(each["lag_events"] == 0 for each in (await answer.json())["data"])


async def test_counts_of_all_partitions_are_added_up_by_minute_and_kind(
    js: JetStream, table: Callable[..., Awaitable[None]]
) -> None:
    await table("0:MoneyDeposited:events", MINUTE, 2)
    await table("0:MoneyDeposited:money", MINUTE, 50)
    await table("1:MoneyDeposited:events", MINUTE, 3)
    await table("1:AccountClosed:events", MINUTE - 60, 1)
    minutes = ActivityReader()
    found = await minutes.read(js, NOW)
    assert list(found)[-1] == AT
    assert found[AT] == {"MoneyDeposited": {"events": 5, "money": 50}}
    assert list(found.values())[-2] == {"AccountClosed": {"events": 1, "money": 0}}
    await table("1:MoneyDeposited:events", MINUTE, 4)  # in place of 3
    assert (await minutes.read(js, NOW))[AT]["MoneyDeposited"]["events"] == 6


async def test_what_is_older_than_an_hour_is_gone(
    js: JetStream, table: Callable[..., Awaitable[None]]
) -> None:
    minutes, oldest = ActivityReader(), MINUTE - 59 * 60
    await table("0:MoneyDeposited:events", oldest, 1)
    await table("0:MoneyDeposited:events", oldest - 60, 1)
    assert [bool(each) for each in (await minutes.read(js, NOW)).values()] == [True] + [False] * 59
    assert not any((await minutes.read(js, NOW + 60)).values())
    await table("0:MoneyDeposited:events", MINUTE, 1)
    await table("0:MoneyDeposited:events", MINUTE, None)  # the table has let it go
    assert not any((await minutes.read(js, NOW + 60)).values())


async def test_only_what_is_new_is_read(
    js: JetStream, table: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "BATCH", 3)
    begun: list[dict[str, Any]] = []
    read = stream_reader.read

    async def noted(js: JetStream, stream: str, query: dict[str, Any]) -> list[StoredMessage]:
        begun.append(query)
        return await read(js, stream, query)

    monkeypatch.setattr(stream_reader, "read", noted)
    minutes = ActivityReader()
    for partition in range(8):
        await table(f"{partition}:MoneyDeposited:events", MINUTE, 1)
    assert (await minutes.read(js, NOW))[AT]["MoneyDeposited"]["events"] == 8
    assert [each.get("seq") for each in begun] == [None, 4, 7, 9]
    begun.clear()
    await minutes.read(js, NOW)
    assert begun == []
    await table("0:MoneyDeposited:events", MINUTE, 9)
    assert (await minutes.read(js, NOW))[AT]["MoneyDeposited"]["events"] == 16
    assert [each["seq"] for each in begun] == [9, 10]


async def test_a_changelog_that_is_made_anew_is_read_anew(
    js: JetStream, table: Callable[..., Awaitable[None]]
) -> None:
    minutes = ActivityReader()
    for number in range(5):
        await table("0:MoneyDeposited:events", MINUTE, number)
    assert (await minutes.read(js, NOW))[AT]["MoneyDeposited"]["events"] == 4
    await js.context.delete_stream(CHANGELOG)
    assert not any((await minutes.read(js, NOW)).values())
    await js.ensure_stream(CHANGELOG, [f"{CHANGELOG}.*.>"], max_msgs_per_subject=1)
    await table("0:MoneyWithdrawn:events", MINUTE, 7)
    assert await _last(minutes, js) == {"MoneyWithdrawn": {"events": 7, "money": 0}}


async def _last(minutes: ActivityReader, js: JetStream) -> Any:
    return (await minutes.read(js, NOW))[AT]


async def test_what_somebody_wrote_by_hand_is_passed_over(
    js: JetStream, table: Callable[..., Awaitable[None]]
) -> None:
    await table("0:MoneyDeposited:events", MINUTE, 1)
    await table("MoneyDeposited:events", MINUTE, 1)
    await table("1:MoneyDeposited:events", MINUTE, "many")
    for key in ("x", "_", encode_key(b"[]"), encode_key(b'["a:b:c",7]')):
        await js.context.publish(f"{CHANGELOG}.0.{key}", b"1")
    assert await _last(ActivityReader(), js) == {"MoneyDeposited": {"events": 1, "money": 0}}


async def test_without_nats_it_says_so(own_servers: EmbeddedServers) -> None:
    async with serving(create_app(own_servers.settings), ready=False) as client:
        await activity(client)
        await own_servers.servers["nats"].stop()

        async def says_so() -> object:
            return await problem(await client.get("/activity"), 503, "pipeline-unavailable")

        await eventually(says_so)
