"""`GET /events` and `/subscriptions`: pages, streams, and positions that are kept by name."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse

from api.balances.app import create_app
from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import Event
from pipeline.operations.feed import subscriptions
from pipeline.support.settings import Settings
from tests.bank import accounts, append, as_delivered, publish, publish_markers
from tests.conftest import placed
from tests.harness import eventually
from tests.services import Client, problem, serving

STREAM = {"Accept": "text/event-stream"}


class Bank:
    def __init__(self, client: Client, js: JetStream, store: EventStore) -> None:
        self.client, self.js, self.store = client, js, store

    async def stored(self, *histories: Sequence[Event]) -> list[Event]:
        await append(self.store, histories)
        events = [event for history in histories for event in history]
        await publish(self.js, events)
        return events

    async def page(self, **query: str) -> dict[str, Any]:
        async with self.client.get("/events", params=query) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["Vary"] == "Accept"
            found: dict[str, Any] = await answer.json()
            return found

    async def pages(self, **query: str) -> tuple[list[dict[str, Any]], str]:
        found: list[dict[str, Any]] = []
        while True:
            page = await self.page(**query)
            found += page["data"]
            query = {**query, "after": page["next"]}
            query.pop("subscription", None)
            if not page["has_more"]:
                return found, page["next"]

    @asynccontextmanager
    async def stream(self, last: str = "", **query: str) -> AsyncIterator["Stream"]:
        headers = {**STREAM, **({"Last-Event-ID": last} if last else {})}
        async with self.client.get("/events", params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield Stream(answer)


class Stream:
    """Server-sent events, as a browser reads them."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer
        self.retry, self.id = "", ""

    async def take(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                line = (await self._answer.content.readline()).decode().rstrip("\n")
                name, _, value = line.partition(": ")
                if name == "id":
                    self.id = value
                elif name == "retry":
                    self.retry = value
                elif name == "data":
                    found.append(orjson.loads(value))
                    assert found[-1]["position"] == self.id
        return found


@pytest.fixture
async def bank(settings: Settings, js: JetStream, store: EventStore) -> AsyncIterator[Bank]:
    await ensure_log(js, settings)
    await publish_markers(js)
    async with serving(create_app(settings), ready=False) as client:
        yield Bank(client, js, store)


def ids(events: Sequence[Any]) -> list[str]:
    return [each.get("id") or each["_id"] for each in events]


async def test_pages_and_streams_have_the_same(bank: Bank) -> None:
    before = await bank.stored(*accounts(7, 3))
    found, end = await bank.pages(limit="10")
    assert sorted(ids(found)) == sorted(ids(before))
    assert await bank.page(after=end) == {"data": [], "has_more": False, "next": end}
    async with bank.stream() as stream, bank.stream(after="now") as late:
        assert [each["id"] for each in await stream.take(21)] == ids(found)
        assert stream.retry
        await late.take(0)
        news = await bank.stored(*accounts(2))
        for each in (stream, late):
            assert ids(await each.take(6)) == ids(news)
    more = await bank.stored(*accounts(1))
    for query in ({"last": stream.id}, {"after": stream.id}, {"last": stream.id, "after": "now"}):
        async with bank.stream(**query) as again:
            assert ids(await again.take(3)) == ids(more)
    assert ids((await bank.pages(after=end, kinds="AccountCreated"))[0]) == ids(
        [each for each in [*news, *more] if each["version"] == 1]
    )


async def test_an_event_is_a_cloud_event(bank: Bank) -> None:
    [event] = await bank.stored(accounts(1, 1)[0])
    [shown] = (await bank.page())["data"]
    assert shown == {
        "specversion": "1.0",
        "id": event["_id"],
        "source": "/bank",
        "type": "AccountCreated",
        "subject": event["account_id"],
        "time": as_delivered([event])[0]["created_at"],
        "datacontenttype": "application/json",
        "dataschema": str(bank.client.make_url("/schemas/AccountCreated/1")),
        "version": 1,
        "position": shown["position"],
        "correlationid": event["correlation_id"],
        "data": as_delivered([event])[0],
    }
    async with bank.client.get("/schemas/AccountCreated/1") as answer:
        assert (answer.status, answer.content_type) == (200, "application/schema+json")
        assert (await answer.json())["properties"]["kind"] == {"const": "AccountCreated"}


async def test_a_stream_begins_with_what_is_recent(bank: Bank) -> None:
    before = await bank.stored(*accounts(1, 2))
    assert ids((await bank.page(after="recent"))["data"]) == ids(before)
    await publish_markers(bank.js)
    since = await bank.stored(*accounts(1, 3))
    async with bank.stream(after="recent") as stream:
        assert ids(await stream.take(3)) == ids(since), "nothing from before the marker"
    await bank.client.put("/subscriptions/latest", json={"position": "recent"})
    assert ids((await bank.page(subscription="latest"))["data"]) == ids(since)


async def test_an_event_has_neighbours(bank: Bank) -> None:
    events = as_delivered(await bank.stored(accounts(1, 3)[0]))
    account = events[0]["account_id"]

    async def around(version: int) -> dict[str, Any]:
        async with bank.client.get(f"/events/{account}/{version}") as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    assert await around(1) == {"event": events[0], "before": None, "after": events[1]}
    assert await around(2) == {"event": events[1], "before": events[0], "after": events[2]}
    assert await around(3) == {"event": events[2], "before": events[1], "after": None}
    for path in (f"/events/{account}/4", "/events/nobody/1", f"/events/{account}/4000000000"):
        await problem(await bank.client.get(path), 404, "version-not-found")
    for path in (f"/events/{account}/0", f"/events/{account}/x"):
        await problem(await bank.client.get(path), 404, "not-found")


async def test_a_stream_has_the_kinds_that_were_asked_for_alone(bank: Bank) -> None:
    events = await bank.stored(*accounts(2, 2))
    opened = [each for each in events if each["kind"] == "AccountCreated"]
    async with bank.stream(kinds="AccountCreated") as stream:
        assert {*ids(await stream.take(len(opened)))} == {*ids(opened)}


async def test_a_page_waits_for_its_first_event(bank: Bank) -> None:
    now = (await bank.page(after="now"))["next"]
    waiting = asyncio.create_task(bank.page(after=now, timeout="30"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    events = await bank.stored(*accounts(1, 1))
    assert ids((await waiting)["data"]) == ids(events)


async def test_what_is_asked_for_amiss(bank: Bank) -> None:
    for query in (
        {"after": "yesterday"},
        {"after": "0.0.0.1024.a.1"},
        {"after": "now", "subscription": "billing"},
        {"limit": "0"},
        {"limit": "1001"},
        {"kinds": "a,,b"},
        {"subscription": "a/b"},
        {"timeout": "31"},
        {"since": "now"},
    ):
        await problem(await bank.client.get("/events", params=query), 400, "invalid-input")
    answer = await bank.client.get("/events", headers={"Last-Event-ID": "7"})
    await problem(answer, 400, "invalid-input")
    answer = await bank.client.get("/events", params={"subscription": "billing"})
    await problem(answer, 404, "subscription-not-found")
    for path in ("/schemas/AccountCreated/2", "/schemas/Nothing/1"):
        await problem(await bank.client.get(path), 404, "not-found")


async def test_a_consumer_keeps_its_position_by_name(bank: Bank) -> None:
    events, path = await bank.stored(*accounts(2)), "/subscriptions/billing"
    put, get = bank.client.put, bank.client.get
    async with put(path, json={"position": "beginning"}) as answer:
        assert answer.status == 201
        first = answer.headers["ETag"]
    found, end = await bank.pages(subscription="billing")
    assert sorted(ids(found)) == sorted(ids(events))
    await problem(await put(path, json={"position": end}), 412, "subscription-changed")
    async with put(path, json={"position": end}, headers={"If-Match": first}) as answer:
        assert (answer.status, await answer.json()) == (200, {"name": "billing", "position": end})
        second = answer.headers["ETag"]
    assert (await bank.page(subscription="billing"))["data"] == []
    late = await put(path, json={"position": "beginning"}, headers={"If-Match": first})
    await problem(late, 412, "subscription-changed")
    assert late.headers["ETag"] == second
    async with get(path) as answer:
        assert (answer.headers["ETag"], (await answer.json())["position"]) == (second, end)
    async with get("/subscriptions") as answer:
        assert await answer.json() == {"data": [{"name": "billing", "position": end}]}
    await problem(
        await bank.client.delete(path, headers={"If-Match": first}), 412, "subscription-changed"
    )
    async with bank.client.delete(path) as answer:
        assert answer.status == 204
    for gone in (
        await get(path),
        await bank.client.delete(path),
        await put(path, json={"position": end}, headers={"If-Match": "*"}),
    ):
        await problem(gone, 404, "subscription-not-found")
    wrong: list[Any] = ["then", 7, None, {}]
    for amiss in wrong:
        await problem(await put(path, json={"position": amiss}), 400, "invalid-input")


async def test_who_wants_it_however_it_is_is_not_overtaken(bank: Bank) -> None:
    """Of those who make the same one at once, one does; of those who name no version, all write."""
    path, position = "/subscriptions/billing", {"position": "now"}

    async def put(**headers: str) -> int:
        async with bank.client.put(path, json=position, headers=headers) as answer:
            return answer.status

    assert sorted(await asyncio.gather(*(put() for _ in range(8)))) == [201, *[412] * 7]
    everybody = (put(**{"If-Match": "*"}) for _ in range(8))
    assert {*await asyncio.gather(*everybody)} == {200}
    some = await asyncio.gather(put(**{"If-Match": "*"}), forget(bank, path), forget(bank, path))
    assert some[0] in (200, 404)
    assert sorted(some[1:]) == [204, 404]


async def forget(bank: Bank, path: str) -> int:
    async with bank.client.delete(path) as answer:
        return answer.status


async def test_there_are_only_so_many_subscriptions(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MOST", 2)
    position, put = {"position": "now"}, bank.client.put
    for name in "ab":
        assert (await put(f"/subscriptions/{name}", json=position)).status == 201
    await problem(await put("/subscriptions/c", json=position), 409, "too-many-subscriptions")
    again = await put("/subscriptions/a", json=position, headers={"If-Match": "*"})
    assert again.status == 200
    await problem(await put("/subscriptions/a", json=position), 412, "subscription-changed")
    assert await forget(bank, "/subscriptions/a") == 204
    assert (await put("/subscriptions/c", json=position)).status == 201
    await problem(await put("/subscriptions/a", json=position), 409, "too-many-subscriptions")


async def test_streams_leave_connections_to_others(settings: Settings, js: JetStream) -> None:
    await ensure_log(js, settings)
    few = settings.model_copy(update={"http_connections": 8})
    async with serving(create_app(few), ready=False) as client, AsyncExitStack() as opened:
        bank = Bank(client, js, EventStore(settings.mongodb_url, settings.mongodb_database))
        opened.push_async_callback(bank.store.close)
        for _ in range(3):
            await opened.enter_async_context(bank.stream(after="now"))
        async with bank.stream(after="now"):
            for path in ("/events?after=now", "/pipeline/events"):
                full = await client.get(path, headers=STREAM)
                await problem(full, 503, "too-many-streams")
                assert full.headers["Retry-After"] == "1"
            await bank.page(after="now")
        await eventually(lambda: streams(client))


async def streams(client: Client) -> bool:
    async with client.get("/events", params={"after": "now"}, headers=STREAM) as answer:
        return answer.status == 200


async def test_servers_that_are_away(settings: Settings, js: JetStream) -> None:
    away = placed(settings.data_dir)
    async with serving(create_app(away), ready=False) as client:
        for path in ("/events", "/subscriptions", "/subscriptions/billing"):
            answer = await client.get(path)
            await problem(answer, 503, "pipeline-unavailable")
            assert answer.headers["Retry-After"] == "1"
    store_away = settings.model_copy(update={"mongodb_url": away.mongodb_url})
    await ensure_log(js, settings)
    async with serving(create_app(store_away), ready=False) as client:
        # NATS has two seconds to answer, which may not do on a busy machine.
        await eventually(lambda: answers(client, "now", 200), message="the log has all of it")
        told = await eventually(lambda: answers(client, "beginning", 503))
        assert told["type"] == "/problems/store-unavailable"


async def answers(client: Client, after: str, status: int) -> dict[str, Any]:
    async with client.get("/events", params={"after": after}) as answer:
        found: dict[str, Any] = await answer.json(content_type=None)
        busy = found.get("type") == "/problems/pipeline-unavailable"
        return found if answer.status == status and not busy else {}
