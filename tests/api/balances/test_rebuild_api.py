"""Rebuilds over HTTP: started once whoever asks, seen, followed as events, called off."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse

from api.balances.app import create_app
from api.http.streams import STREAMS
from api.server import _UNDER_WAY
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.operations import keys
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import Phase
from tests.conftest import placed
from tests.harness import Role, cases, eventually
from tests.keys import guarded, holder, on
from tests.rebuilds import FINISHED, FakeWorker
from tests.services import NOBODY, Client, problem, serving

P = 8
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def worker(js: JetStream) -> FakeWorker:
    return FakeWorker(js)


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings), ready=False) as client:
        yield client


async def started(client: Client, body: Any = None) -> dict[str, Any]:
    """Start or join one by POST."""
    async with client.post("/balance/rebuild", **({} if body is None else {"json": body})) as reply:
        return await accepted(reply)


async def accepted(answer: ClientResponse) -> dict[str, Any]:
    document: dict[str, Any] = await answer.json()
    assert answer.status == 202, document
    assert answer.headers["Location"] == f"/rebuilds/{document['id']}"
    return document


async def shown(client: Client, job_id: str) -> dict[str, Any]:
    async with client.get(f"/rebuilds/{job_id}") as answer:
        document: dict[str, Any] = await answer.json()
        assert answer.status == 200, document
    return document


async def test_one_from_its_start_to_its_end(bank: Client, worker: FakeWorker) -> None:
    begun = await started(bank)
    assert begun == {
        "id": begun["id"],
        "projection": "balance",
        "kind": "online",
        "state": "running",
        "phase": "wanted",
        "partitions": [
            {
                "partition": partition,
                "state": "waiting",
                "done": 0,
                "total": 0,
                "events_per_second": 0.0,
                "seconds_left": None,
                "pauses_ms": [],
                "owner": "",
            }
            for partition in range(P)
        ],
        "started": begun["started"],
        "finished": None,
        "reason": None,
        "done": 0,
        "total": 0,
    }
    assert (await worker.job()).concurrency == 1
    await worker.turns("building", generation=2)
    await worker.notes(0, state="replayed", done=70, total=60, pauses_ms=[1.5, 2.5])
    await worker.notes(1, state="replaying", done=10, total=40, events_per_second=20.04)
    await worker.notes(2, state="replaying", done=0, total=40)
    building = await shown(bank, begun["id"])
    assert (building["state"], building["phase"]) == ("running", "building")
    assert (building["done"], building["total"]) == (80, 150)
    parts = building["partitions"]
    assert [part["seconds_left"] for part in parts[:4]] == [0.0, 1.5, None, None]
    assert (parts[0]["done"], parts[0]["total"]) == (70, 70), "some were stored meanwhile"
    assert (parts[0]["pauses_ms"], parts[0]["owner"]) == ([1.5, 2.5], "ann")
    await worker.carries_out()
    done = await shown(bank, begun["id"])
    assert (done["state"], done["phase"], done["finished"]) == ("done", "done", FINISHED)
    assert (done["done"], done["total"]) == (10 * P, 10 * P)


async def test_by_get_as_in_the_seed(bank: Client, worker: FakeWorker) -> None:
    async with bank.get("/balance/rebuild") as answer:
        begun = await accepted(answer)
        assert answer.headers["Cache-Control"] == "no-store"
    assert begun["kind"] == "online"
    assert (await started(bank))["id"] == begun["id"]
    assert (await started(bank, {}))["id"] == begun["id"]
    await worker.carries_out()
    async with bank.head("/balance/rebuild") as answer:
        assert answer.status == 405, "to look starts nothing"
    assert (await worker.job()).id == begun["id"]


async def test_by_get_and_post_at_once_from_two_replicas(
    settings: Settings, worker: FakeWorker
) -> None:
    async with (
        serving(create_app(settings), ready=False) as one,
        serving(create_app(settings), ready=False) as two,
    ):
        for _ in range(3):
            answers = await asyncio.gather(
                *(client.get("/balance/rebuild") for client in (one, two) for _ in range(3)),
                *(client.post("/balance/rebuild") for client in (one, two) for _ in range(3)),
            )
            ids = {(await accepted(answer))["id"] for answer in answers}
            assert ids == {(await worker.job()).id}
            for client in (one, two):
                listed = await listing(client)
                assert [each["state"] for each in listed].count("running") == 1
                assert listed[0]["id"] in ids
            await worker.turns("done")
        assert len(await listing(one)) == 3


async def listing(client: Client) -> list[dict[str, Any]]:
    async with client.get("/rebuilds") as answer:
        document = await answer.json()
    assert document["has_more"] is False
    data: list[dict[str, Any]] = document["data"]
    return data


async def test_the_list(bank: Client, worker: FakeWorker) -> None:
    assert await listing(bank) == []
    ids: list[str] = []
    phases: tuple[Phase, ...] = ("done", "failed", "cancelled")
    for phase in phases:
        begun = await started(bank, {"partitions": [len(ids)]})
        ids.append(begun["id"])
        await worker.turns(phase)
    listed = await listing(bank)
    assert [each["id"] for each in listed] == ids[::-1]
    assert [each["state"] for each in listed] == ["cancelled", "failed", "done"]
    assert listed[0] == await shown(bank, ids[2])


@pytest.mark.parametrize(
    ("body", "kind", "partitions", "concurrency"),
    [
        ({"in_place": True}, "in-place", [*range(P)], 1),
        ({"partitions": [5, 2, 5]}, "in-place", [2, 5], 1),
        ({"partitions": [7], "in_place": True, "max_concurrent": 3}, "in-place", [7], 3),
        ({"partitions": None, "in_place": None, "max_concurrent": None}, "online", [*range(P)], 1),
        ({"max_concurrent": 256, "in_place": False}, "online", [*range(P)], 256),
    ],
)
async def test_what_is_asked_for(
    bank: Client,
    worker: FakeWorker,
    body: dict[str, Any],
    kind: str,
    partitions: list[int],
    concurrency: int,
) -> None:
    begun = await started(bank, body)
    assert begun["kind"] == kind
    assert [part["partition"] for part in begun["partitions"]] == partitions
    job = await worker.job()
    assert (job.of, job.concurrency) == (P, concurrency)
    assert (await started(bank, body))["id"] == begun["id"]


@cases(
    ("body", "pointer"),
    [
        ({"partition": [1]}, "#/partition"),
        ({"partitions": [1], "wait": True}, "#/wait"),
        ({"partitions": []}, "#/partitions"),
        ({"partitions": 1}, "#/partitions"),
        ({"partitions": ["1"]}, "#/partitions/0"),
        ({"partitions": [True]}, "#/partitions/0"),
        ({"partitions": [-1]}, "#/partitions/0"),
        ({"partitions": [256]}, "#/partitions/0"),
        ({"partitions": [P]}, "#/partitions"),
        ({"partitions": [1], "in_place": False}, "#/in_place"),
        ({"in_place": "yes"}, "#/in_place"),
        ({"max_concurrent": 0}, "#/max_concurrent"),
        ({"max_concurrent": 1.5}, "#/max_concurrent"),
        ([], "#"),
    ],
)
async def test_what_can_not_be_asked_for(
    bank: Client, js: JetStream, body: object, pointer: str
) -> None:
    document = await problem(await bank.post("/balance/rebuild", json=body), 400, "invalid-input")
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert await js.state("KV_rebuild") is None, "nothing was started"


async def test_a_body_that_is_none(bank: Client) -> None:
    await problem(await bank.post("/balance/rebuild", data=b"{", headers=JSON), 400, "invalid-json")
    await problem(await bank.post("/balance/rebuild", data="x"), 415, "unsupported-media-type")
    async with bank.post("/balance/rebuild", data=b"", headers=JSON) as answer:
        await accepted(answer)


async def test_another_one_runs(bank: Client, worker: FakeWorker) -> None:
    begun = await started(bank, {"partitions": [1]})
    for answer in (
        await bank.get("/balance/rebuild"),
        await bank.post("/balance/rebuild"),
        await bank.post("/balance/rebuild", json={"partitions": [1, 2]}),
    ):
        document = await problem(answer, 409, "rebuild-busy")
        assert document["rebuild"] == begun["id"]
        assert begun["id"] in document["detail"]
    await worker.turns("done")
    assert (await started(bank))["kind"] == "online"


async def test_cancel(bank: Client, worker: FakeWorker) -> None:
    begun = await started(bank)
    await worker.turns("building")
    for _ in range(2):  # an answer may get lost: to call it off again does no harm
        async with bank.delete(f"/rebuilds/{begun['id']}") as answer:
            cancelled = await accepted(answer)
        assert (cancelled["state"], cancelled["id"]) == ("cancelled", begun["id"])
        assert cancelled["finished"]
    assert (await worker.job()).phase == "cancelled"
    assert (await started(bank))["id"] != begun["id"]


@pytest.mark.parametrize("phase", ["swapped", "done", "failed"])
async def test_it_is_too_late_to_cancel(bank: Client, worker: FakeWorker, phase: Phase) -> None:
    begun = await started(bank)
    await worker.turns(phase, reason="no disk" if phase == "failed" else None)
    document = await problem(await bank.delete(f"/rebuilds/{begun['id']}"), 409, "rebuild-finished")
    assert ("readers see" if phase == "swapped" else phase) in document["detail"]
    assert (await worker.job()).phase == phase


async def test_a_failed_one_says_why_and_goes_on_when_it_is_started_again(
    bank: Client, worker: FakeWorker
) -> None:
    begun = await started(bank)
    await worker.turns("failed", reason="no disk", generation=2, finished=FINISHED)
    failed = await shown(bank, begun["id"])
    assert (failed["state"], failed["reason"]) == ("failed", "no disk")
    again = await started(bank, {"max_concurrent": 2})
    assert (again["id"], again["state"], again["phase"]) == (begun["id"], "running", "wanted")
    assert (again["reason"], again["finished"]) == (None, None)


@cases("job_id", [NOBODY, "*", "%3E", "a%20b", "a%2Fb", "é"])
async def test_one_that_is_not_there(bank: Client, worker: FakeWorker, job_id: str) -> None:
    begun = await started(bank)
    await problem(await bank.get(f"/rebuilds/{job_id}"), 404, "rebuild-not-found")
    await problem(await bank.get(f"/rebuilds/{job_id}/events"), 404, "rebuild-not-found")
    await problem(await bank.delete(f"/rebuilds/{job_id}"), 404, "rebuild-not-found")
    assert (await shown(bank, begun["id"]))["state"] == "running"
    async with bank.head(f"/rebuilds/{begun['id']}/events") as answer:
        assert answer.status == 405


async def test_what_somebody_wrote_by_hand(bank: Client, js: JetStream, worker: FakeWorker) -> None:
    begun = await started(bank)
    bucket = Bucket(js, "rebuild")
    await bucket.put(f"part.{begun['id']}.0", {"done": "all"})
    assert (await shown(bank, begun["id"]))["partitions"][0]["done"] == 0
    await bucket.put(f"job.{begun['id']}", {"phase": "nonsense"})
    await problem(await bank.get(f"/rebuilds/{begun['id']}"), 404, "rebuild-not-found")
    assert await listing(bank) == []
    assert (await started(bank))["id"] != begun["id"]


# ------------------------------------------------------------------------ as a stream of events


class Events:
    """The events of a stream, as a browser reads them."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer
        self.comments = 0

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Name and data of the next event; EOFError when there is none."""
        name, data = "", ""
        async with asyncio.timeout(20):
            while line := await self._answer.content.readline():
                field, _, value = line.decode().rstrip("\n").partition(": ")
                match field:
                    case "event":
                        name = value
                    case "data":
                        data = value
                    case "" if name:
                        return name, json.loads(data)
                    case "" if value:
                        self.comments += 1
        raise EOFError

    async def until(self, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read until the progress is such."""
        while True:
            name, data = await self.next()
            assert name == "progress"
            if check(data):
                return data


@asynccontextmanager
async def following(client: Client, job_id: str, **headers: str) -> AsyncIterator[Events]:
    async with client.get(f"/rebuilds/{job_id}/events", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Correlation-ID"]
        yield Events(answer)


async def test_events_from_start_to_end(bank: Client, worker: FakeWorker) -> None:
    begun = await started(bank)
    async with (
        following(bank, begun["id"]) as one,
        following(bank, begun["id"], **{"Last-Event-ID": "7\u00e9"}) as two,
    ):
        assert await one.next() == await two.next() == ("progress", begun)
        await worker.turns("building")
        await worker.notes(3, state="replaying", done=1, total=9)
        for events in (one, two):
            building = await events.until(lambda data: data["done"])
            assert building == await shown(bank, begun["id"])
        await worker.carries_out()
        for events in (one, two):
            last = await events.until(lambda data: data["state"] == "done")
            assert await events.next() == ("end", last)
            with pytest.raises(EOFError):
                await events.next()
        assert last == await shown(bank, begun["id"])
    async with following(bank, begun["id"]) as late:
        assert await late.next() == ("progress", last)
        assert await late.next() == ("end", last)


async def test_nothing_is_sent_twice_but_a_heartbeat(
    bank: Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.streams.HEARTBEAT", 0.6)
    begun = await started(bank)
    async with following(bank, begun["id"]) as events:
        await events.next()
        reading = asyncio.create_task(events.next())
        await eventually(lambda: events.comments >= 2)
        assert not reading.done()
        await worker.turns("cancelled")
        assert (await reading)[1]["state"] == "cancelled"
        assert (await events.next())[0] == "end"


async def test_many_share_one_reading_and_leave_nothing(
    bank: Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await started(bank)
    read, readings = JetStream.ping, []

    async def counted(js: JetStream) -> None:
        readings.append(js)
        await read(js)

    monkeypatch.setattr(JetStream, "ping", counted)
    assert bank.app is not None
    streams = bank.app[STREAMS]
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        url = bank.make_url(f"/rebuilds/{begun['id']}/events")
        answers = await asyncio.gather(*(http.get(url) for _ in range(40)))
        assert len(streams) == 40
        readings.clear()
        began = loop.time()
        await eventually(lambda: len(readings) >= 3)
        assert len(readings) <= (loop.time() - began) / 0.5 + 2
        for answer in answers[1:]:
            answer.close()
        await eventually(lambda: len(streams) == 1, message="those who went away are forgotten")
        await worker.turns("done")
        assert b"event: end" in await answers[0].read()
    await eventually(lambda: not streams)
    readings.clear()
    began = loop.time()
    await eventually(lambda: loop.time() - began > 1.2)
    assert readings == [], "nobody watches: nobody reads"


async def test_a_rebuild_that_is_forgotten_ends_its_stream(bank: Client, js: JetStream) -> None:
    begun = await started(bank)
    async with following(bank, begun["id"]) as events:
        await events.next()
        await Bucket(js, "rebuild").delete(f"job.{begun['id']}")
        with pytest.raises(EOFError):
            await events.next()
    await problem(await bank.get(f"/rebuilds/{begun['id']}/events"), 404, "rebuild-not-found")


async def test_a_service_that_stops_ends_its_streams_at_once(
    settings: Settings, role: Callable[..., Awaitable[Role]], worker: FakeWorker
) -> None:
    service = await role("python", "-m", "api.balances")
    url = f"http://127.0.0.1:{settings.balances_port}"
    async with aiohttp.ClientSession(url) as http:
        begun = await eventually(lambda: begun_at(http))
        async with http.get(f"/rebuilds/{begun}/events") as answer:
            events = Events(answer)
            await events.next()
            loop = asyncio.get_running_loop()
            asked = loop.time()
            await service.kill(signal.SIGTERM)
            with pytest.raises(EOFError):
                await events.next()
            assert await service.wait() == 0
            assert loop.time() - asked < 8, "without the grace for requests under way"


async def test_a_body_counts_with_a_key_too(settings: Settings) -> None:
    key = await holder(settings, keys.Role.OPERATOR)
    async with guarded(create_app(on(settings))) as bank:
        wrong = {"partitions": [1], "in_place": False}
        answer = await bank.post("/balance/rebuild", json=wrong, headers=key)
        await problem(answer, 400, "invalid-input")


@pytest.mark.parametrize("typed", [False, True])
async def test_an_empty_body_in_chunks_is_none(bank: Client, typed: bool) -> None:
    head = ["POST /balance/rebuild HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]
    head += ["Content-Type: application/json"] if typed else []
    reader, writer = await asyncio.open_connection(bank.host, bank.port)
    writer.write("\r\n".join([*head, "", "0", "", ""]).encode())
    assert b" 202 " in await reader.readline()
    writer.close()


async def begun_at(http: aiohttp.ClientSession) -> str:
    async with http.post("/balance/rebuild") as answer:
        return str((await answer.json())["id"])


@pytest.mark.parametrize("stops", [False, True])
async def test_a_client_that_reads_nothing_holds_nothing_up(
    bank: Client, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """The socket fills up, and the stream with it: it is given up, at the latest by stopping."""
    monkeypatch.setattr("api.balances.rebuild_events.as_json", lambda *_: {"much": "x" * 10**7})
    monkeypatch.setattr("api.http.streams._PATIENCE", 60 if stops else 0.5)
    monkeypatch.setattr("api.http.streams._FAREWELL", 0.5)
    begun = await started(bank)
    assert bank.app is not None
    streams, under_way = bank.app[STREAMS], bank.app[_UNDER_WAY]
    reader, writer = await asyncio.open_connection(bank.host, bank.port, limit=1)
    writer.write(f"GET /rebuilds/{begun['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert await reader.read(1)
    assert len(streams) == 1
    if stops:
        streams.stop()
    await eventually(lambda: not streams)
    await eventually(lambda: all(task.done() for task in under_way))
    writer.close()


async def test_nats_comes_and_goes(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.balances.connections.PATIENCE", 0.5)
    embedded = EmbeddedServers(placed(scratch), ["nats"])
    async with serving(create_app(embedded.settings), ready=False) as client:
        for method, path in (
            ("GET", "/balance/rebuild"),
            ("POST", "/balance/rebuild"),
            ("GET", "/rebuilds"),
            ("GET", f"/rebuilds/{NOBODY}"),
            ("GET", f"/rebuilds/{NOBODY}/events"),
            ("DELETE", f"/rebuilds/{NOBODY}"),
        ):
            answer = await client.request(method, path)
            await problem(answer, 503, "pipeline-unavailable")
            assert answer.headers["Retry-After"]
        await embedded.start()
        server = embedded.servers["nats"]
        js = await JetStream.connect(server.url, "test")
        try:
            begun = await eventually(lambda: started(client))
            async with following(client, begun["id"]) as events:
                await events.next()
                await server.kill(signal.SIGKILL)
                await server.wait_dead()
                await problem(await client.get("/rebuilds"), 503, "pipeline-unavailable")
                await server.start()
                worker = FakeWorker(js)
                await eventually(worker.carries_out)
                await events.until(lambda data: data["state"] == "done")
                assert (await events.next())[0] == "end"
        finally:
            await js.close()
            await embedded.stop()
