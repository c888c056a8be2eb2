"""The pipeline at a glance over HTTP: true figures, who works, who is lost, and what is down."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from api.balances import overview
from api.balances.app import create_app
from api.balances.overview import OVERVIEWS
from api.http.streams import STREAMS
from pipeline.embedded.servers import EmbeddedServers
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.operations.keys import Role as KeyRole
from pipeline.operations.status import last_hour
from pipeline.operations.status.happenings import Changes
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from tests.bank import accounts, append
from tests.fleet import Fleet
from tests.harness import LONG_LANE, Role, eventually
from tests.keys import guarded, holder, on
from tests.names import STREAM
from tests.ports import free_port
from tests.rebuilds import FakeWorker
from tests.services import Client, problem, serving

Start = Callable[..., Awaitable[Role]]

elasticsearch = pytest.mark.elasticsearch


async def pipeline(client: Client) -> dict[str, Any]:
    async with client.get("/pipeline") as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def shows(client: Client, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Wait until it shows that; and what it shows then."""

    async def looks() -> dict[str, Any]:
        found = await pipeline(client)
        assert check(found), found
        return found

    return await eventually(looks, seconds=120, message="the pipeline shows it")


def states(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in found["workers"]}


def rates(found: dict[str, Any]) -> dict[str, float | None]:
    stages = {"stored": found["stored"], "forwarded": found["forwarded"]}
    return {name: each["rate"] for name, each in (stages | _projected(found)).items()}


def _projected(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["projection"]: each for each in found["projected"]}


def quiet(found: dict[str, Any]) -> bool:
    return [each["lag_events"] for each in found["projected"]] == [0]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(settings), ready=False) as client:
        yield client


@pytest.fixture
async def fleet(settings: Settings, role: Start) -> AsyncIterator[Fleet]:
    fleet = Fleet(settings, role)
    yield fleet
    await fleet.close()


# ---------------------------------------------------------------- what it shows


async def test_a_bank_where_nothing_ever_was(client: Client) -> None:
    found = await pipeline(client)
    assert all(each["up"] and each["detail"] is None for each in found["servers"])
    assert [each["name"] for each in found["servers"]] == [
        "mongodb",
        "nats",
        "redis",
        "elasticsearch",
    ]
    assert all(each["state"] == "up" for each in found["servers"])
    assert found["stored"] == {"events": 0, "rate": None, "unknown": None}
    assert found["commands"]["rate"] is found["commands"]["p99_ms"] is None
    assert found["commands"]["unknown"]
    assert found["forwarded"]["lag_events"] is found["forwarded"]["events"] is None
    assert "there is no stream" in found["forwarded"]["unknown"]
    (projected,) = found["projected"]
    assert projected["lag_events"] is projected["rate"] is projected["waiting"] is None
    assert projected["parked"] == 0
    assert projected["unknown"]
    assert found["forwarder"] == {"leader": None, "unknown": None}
    assert (found["workers"], found["workers_unknown"]) == ([], None)
    assert (found["rebuild"], found["rebuild_unknown"]) == (None, None)


@pytest.mark.drill
@elasticsearch
async def test_the_figures_are_true(
    client: Client, store: EventStore, fleet: Fleet, role: Start
) -> None:
    forwarder = await role("bank", "forwarder")
    await fleet.join()
    await append(store, accounts(20, 3))
    found = await shows(client, lambda found: quiet(found) and found["stored"]["events"] == 60)
    assert found["forwarded"]["events"] == 60
    assert found["forwarded"]["lag_seconds"] == found["projected"][0]["lag_seconds"] == 0
    assert str(forwarder.pid) in found["forwarder"]["leader"]
    (worker,) = found["workers"]
    assert (worker["name"], worker["state"]) == ("w1", "here")
    assert worker["partitions"] == [each["partition"] for each in found["partitions"]]
    assert len(found["partitions"]) == fleet.partitions
    await shows(client, lambda found: set(rates(found).values()) == {0.0})
    await append(store, accounts(20, 3))
    moved: set[str] = set()

    def all_moved(found: dict[str, Any]) -> bool:
        moved.update(name for name, rate in rates(found).items() if rate)
        return moved == rates(found).keys()

    await shows(client, all_moved)
    await shows(client, quiet)
    await forwarder.stop()
    await append(store, accounts(5, 1))
    found = await shows(client, lambda found: found["forwarded"]["lag_events"] == 5)
    assert found["forwarder"] == {"leader": None, "unknown": None}
    assert (found["stored"]["events"], found["forwarded"]["events"]) == (125, 120)
    (projected,) = found["projected"]
    assert (projected["lag_events"], projected["waiting"]) == (5, 0)
    assert projected["lag_seconds"] > 0


@pytest.mark.drill
@elasticsearch
async def test_a_worker_that_is_killed_is_lost_and_one_that_goes_has_left(
    client: Client, store: EventStore, fleet: Fleet, role: Start
) -> None:
    await role("bank", "forwarder")
    await fleet.join(3)
    await fleet.has(3, 3, 2)
    here = {"w1": "here", "w2": "here", "w3": "here"}
    await shows(client, lambda found: states(found) == here)
    await fleet.leave("w1")
    await fleet.kill("w2")
    await fleet.has(fleet.partitions)
    owned = {"w1": [], "w2": [], "w3": list(range(fleet.partitions))}
    found = await shows(
        client,
        lambda found: (
            states(found)["w2"] != "here"
            and {each["name"]: each["partitions"] for each in found["workers"]} == owned
        ),
    )
    assert states(found) == {"w1": "left", "w2": "lost", "w3": "here"}
    seen = {each["name"]: each["seen"] for each in found["workers"]}
    assert seen["w2"] < seen["w3"]
    await role("bank", "worker", "--id", "w2")
    await shows(client, lambda found: states(found)["w2"] == "here")


@pytest.mark.drill
@elasticsearch
async def test_a_worker_that_stands_still_is_lost_until_it_goes_on(
    client: Client, fleet: Fleet, role: Start
) -> None:
    await role("bank", "forwarder")
    await fleet.join()
    await shows(client, lambda found: states(found) == {"w1": "here"})
    await fleet.workers["w1"].kill(signal.SIGSTOP)
    await shows(client, lambda found: states(found) == {"w1": "lost"})
    await fleet.workers["w1"].kill(signal.SIGCONT)
    await shows(client, lambda found: states(found) == {"w1": "here"})


async def test_a_rebuild_that_runs_and_one_that_ended(client: Client, js: JetStream) -> None:
    started = (await (await client.post("/balance/rebuild")).json())["id"]
    found = await shows(client, lambda found: found["rebuild"])
    assert (found["rebuild"]["id"], found["rebuild"]["state"]) == (started, "running")
    await FakeWorker(js).turns("done", finished=moment(time.time() - 60))
    found = await shows(client, lambda found: found["rebuild"]["state"] == "done")
    assert found["rebuild"]["id"] == started
    await FakeWorker(js).turns("done", finished=moment(time.time() - 3600))
    await shows(client, lambda found: found["rebuild"] is None and not found["rebuild_unknown"])


# ---------------------------------------------------------------- who answers


def of_role(found: dict[str, Any], role: str) -> dict[str, str]:
    return {each["name"]: each["state"] for each in found["instances"] if each["role"] == role}


# The page's tests have an account service that stands still and one that ended.
@LONG_LANE
async def test_every_instance_tells_how_it_fares(client: Client, role: Start) -> None:
    """Those that stand still are told from those that have ended, and from those that are busy."""
    port = free_port()
    accounts = await role("python", "-m", "api.accounts", BANK_ACCOUNTS_PORT=str(port))
    forwarder = await role("bank", "forwarder")
    found = await shows(
        client,
        lambda found: (
            set(of_role(found, "accounts").values()) == {"ready"}
            and set(of_role(found, "forwarder").values()) == {"ready"}
            and found["instances_unknown"] is None
        ),
    )
    assert len(of_role(found, "balances")) == 1
    assert str(accounts.pid) in next(iter(of_role(found, "accounts")))
    async with ClientSession(f"http://127.0.0.1:{port}") as http:
        async with http.post("/create", json={"owner": "Ada", "money": 5}) as opened:
            account_id = (await opened.json())["id"]
        async with http.post("/withdraw", json={"id": account_id, "money": 50}) as refused:
            assert refused.status == 422
        found = await shows(
            client, lambda found: found["commands"]["outcomes"].get("insufficient-funds") == 1
        )
    assert found["commands"]["outcomes"]["accepted"] == 1
    assert 0 < found["commands"]["p50_ms"] <= found["commands"]["p99_ms"]
    await accounts.kill(signal.SIGSTOP)
    await shows(client, lambda found: set(of_role(found, "accounts").values()) == {"silent"})
    await accounts.kill(signal.SIGCONT)
    await shows(client, lambda found: set(of_role(found, "accounts").values()) == {"ready"})
    await accounts.stop()
    await forwarder.kill()
    found = await shows(
        client, lambda found: set(of_role(found, "forwarder").values()) == {"silent"}
    )
    assert set(of_role(found, "accounts").values()) == {"ended"}


async def test_without_nats_nobody_is_called_dead(own_servers: EmbeddedServers) -> None:
    async with serving(create_app(own_servers.settings), ready=False) as client:
        await shows(client, lambda found: of_role(found, "balances"))
        await own_servers.servers["nats"].stop()
        found = await shows(client, lambda found: "NATS" in (found["instances_unknown"] or ""))
        assert set(of_role(found, "balances").values()) == {"unknown"}
        assert found["commands"]["rate"] is None
        assert found["commands"]["unknown"]


async def test_the_points_of_the_last_hour(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_hour, "STEP", 1)
    async with watching(client) as answer:
        assert (await told(answer))["stored"]["events"] == 0
        points = await told(answer, "hour")
        assert len(points["at"]) == len(points["stored"]) > 0
        assert points["projected"].keys() == {"balance"}
        grown = await told(answer, "hour")
        assert grown["at"][0] > points["at"][-1]
    async with client.get("/pipeline/hour") as whole:
        found = await whole.json()
        assert [at for at in found["at"] if at <= grown["at"][-1]] == points["at"] + grown["at"]
    async with client.get("/partitions/hour") as whole:
        found = await whole.json()
        assert len(found["at"]) == len(found["lag_seconds"][0])
    await problem(await client.get("/partitions/hour?projection=none"), 404, "projection-not-found")


# ---------------------------------------------------------------- what can't be known


@pytest.mark.drill
@elasticsearch
async def test_a_purged_stream_is_unknown_and_never_0(
    client: Client, store: EventStore, js: JetStream, fleet: Fleet, role: Start
) -> None:
    forwarder = await role("bank", "forwarder")
    await fleet.join()
    await append(store, accounts(5, 2))
    await shows(client, lambda found: quiet(found) and found["stored"]["events"] == 10)
    await forwarder.kill()
    await js.api(f"STREAM.PURGE.{STREAM}")
    found = await shows(client, lambda found: found["forwarded"]["unknown"])
    assert "the stream is empty" in found["forwarded"]["unknown"]
    assert found["forwarded"]["lag_events"] is found["forwarded"]["events"] is None
    assert found["projected"][0]["lag_events"] is None
    await forwarder.start()
    await shows(client, quiet)


@pytest.mark.parametrize("name", ["mongodb", "nats", "redis", "elasticsearch"])
async def test_a_server_that_is_down(own_servers: EmbeddedServers, name: str) -> None:
    settings = own_servers.settings
    async with serving(create_app(settings), ready=False) as client:
        assert all(each["up"] for each in (await pipeline(client))["servers"])
        await own_servers.servers[name].stop()
        found = await shows(client, lambda found: not all(e["up"] for e in found["servers"]))
        down = [each for each in found["servers"] if not each["up"]]
        assert [each["name"] for each in down] == [name]
        assert "does not answer" in down[0]["detail"]
        unknown = {
            "mongodb": found["stored"]["unknown"],
            "nats": found["rebuild_unknown"],
            "redis": found["workers_unknown"],
            "elasticsearch": found["projected"][0]["unknown"],
        }
        assert unknown[name] is not None
        assert "does not answer" in unknown[name]
        assert (found["stored"]["events"] is None) == (name == "mongodb")
        assert (found["forwarder"]["unknown"] is None) == (name != "redis")
        async with asyncio.timeout(60):
            await pipeline(client)


@LONG_LANE
async def test_with_all_servers_down_it_is_told_all_the_same(
    own_servers: EmbeddedServers,
) -> None:
    async with serving(create_app(own_servers.settings), ready=False) as client:
        await own_servers.stop()
        found = await shows(client, lambda found: not any(e["up"] for e in found["servers"]))
        assert found["stored"]["events"] is found["forwarded"]["events"] is None
        assert (found["workers"], found["rebuild"]) == ([], None)
        assert all(each["owner"] is None for each in found["partitions"])


# ---------------------------------------------------------------- as events


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[ClientResponse]:
    async with client.get("/pipeline/events") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield answer


async def told(answer: ClientResponse, name: str = "pipeline") -> dict[str, Any]:
    """What the next event of that name says."""
    async with asyncio.timeout(60):
        while True:
            first = await answer.content.readline()
            line = await answer.content.readline()
            assert await answer.content.readline() == b"\n"
            if first == f"event: {name}\n".encode():
                found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                return found


@pytest.fixture
def read_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a client the pipeline is read once an hour."""
    monkeypatch.setattr(overview, "STEP", 3600.0)


@pytest.mark.usefixtures("read_rarely")
async def test_all_who_watch_share_one_reading_and_nobody_costs_next_to_nothing(
    client: Client,
) -> None:
    assert client.app is not None
    monitor, streams = client.app[OVERVIEWS]._monitor, client.app[STREAMS]
    read, readings, both_wait = monitor.read, 0, asyncio.Event()

    async def counted(**options: bool) -> Any:
        nonlocal readings
        readings += 1
        await both_wait.wait()
        return await read(**options)

    monitor.read = counted  # type: ignore[method-assign]
    async with watching(client) as one, watching(client) as other:
        await eventually(lambda: (len(streams), readings) == (2, 1))
        both_wait.set()
        first, same = await asyncio.gather(told(one), told(other))
        assert first == same
        later = await told(one)
        assert later["at"] > first["at"]
        assert later.keys() == (await pipeline(client)).keys()
    await eventually(lambda: not len(streams), message="nobody watches")
    before = readings
    await asyncio.sleep(1.5 * overview.EVERY)
    assert readings == before


async def test_a_reading_that_the_timeline_can_not_compare_is_shown(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Changes, "after", broken)
    assert (await pipeline(client)).keys() >= {"servers", "instances"}
    await eventually(lambda: "ZeroDivisionError" in caplog.text)
    assert (await pipeline(client)).keys() >= {"servers", "instances"}


async def test_it_is_for_observers(settings: Settings) -> None:
    viewer = await holder(settings, KeyRole.VIEWER)
    teller = await holder(settings, KeyRole.TELLER)
    async with guarded(create_app(on(settings))) as client:
        for path in ("/pipeline", "/pipeline/events"):
            async with client.get(path, headers=viewer) as answer:
                assert answer.status == 200
            await problem(await client.get(path, headers=teller), 403, "not-allowed")
            await problem(await client.get(path), 401, "key-required")
