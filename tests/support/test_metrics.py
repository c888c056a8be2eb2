"""What every role tells Prometheus: true figures, documented, and nobody's account."""

import asyncio
import dataclasses
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import faust
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from api.accounts.app import create_app
from api.http.metrics import Requests, middleware
from pipeline.agents import worker_metrics
from pipeline.agents.projection_agent import ProjectionAgent
from pipeline.banking.application import BANK
from pipeline.banking.balance import BALANCE
from pipeline.coordination.ownership import Ownership
from pipeline.coordination.partition_leases import PartitionLeases
from pipeline.embedded.health import WELL, ready
from pipeline.embedded.up import accounts_url, balances_url
from pipeline.eventstore import EventStore
from pipeline.forwarder import metrics as forwarder_metrics
from pipeline.support import metrics
from pipeline.support.metrics import Metrics
from pipeline.support.metrics_server import exposed
from pipeline.support.settings import Settings
from pipeline.tables.counters import Counters
from tests.bank import history
from tests.harness import Role, eventually
from tests.load import Load
from tests.ports import free_port
from tests.scrape import Scrape, parsed, scrape
from tests.services import NOBODY, serving

Start = Callable[..., Awaitable[Role]]
Table = dict[str, tuple[str, frozenset[str]]]
"""Type and labels of each metric by name."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"
SECTIONS = {
    "Every role": {"forwarder", "worker", "accounts", "balances"},
    "Forwarder": {"forwarder"},
    "Worker": {"worker"},
    "Processes": {"worker"} if BANK.processes else set(),
    "Both services": {"accounts", "balances"},
    "Account service": {"accounts"},
    "Balance service": {"balances"},
}
ACCOUNT = re.compile("[0-9A-Z]{26}", re.IGNORECASE)
SICK = "01J00000000000000000000000"
PARTITIONS = 4


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": PARTITIONS})


@pytest.fixture
def measured(role: Start) -> Callable[[str], Awaitable[str]]:
    """`await measured("worker")` starts a forwarder or worker that is ready; its address."""

    async def start(name: str) -> str:
        port = free_port()
        started = await role("bank", name, BANK_METRICS_PORT=str(port))
        await is_ready(f"http://127.0.0.1:{port}", started)
        assert f"metrics on http://127.0.0.1:{port}/metrics" in started.log()
        return f"http://127.0.0.1:{port}"

    return start


async def is_ready(address: str, role: Role) -> None:
    async def well() -> bool:
        assert await ready(address) == WELL, role.log()
        return True

    await eventually(well, seconds=120, message=f"{address} is ready")


# ------------------------------------------------------------------ the figures


@pytest.mark.elasticsearch
async def test_forwarder_and_worker_tell_what_is_in_the_stores(
    measured: Callable[[str], Awaitable[str]], store: EventStore
) -> None:
    forwarder = await measured("forwarder")

    async def marked() -> bool:
        return (await scrape(forwarder))("bank_forwarder_resyncs_total") == 1

    await eventually(marked)
    worker, standby = await asyncio.gather(measured("worker"), measured("forwarder"))
    load, sick = Load(store), history(SICK, 4)
    wrong: Any = {**sick[2], "kind": "MoneyPrinted"}
    for event in (sick[0], sick[1], wrong):
        await store.append(event)

    async def parked() -> bool:
        return (await scrape(worker))("bank_worker_parked_accounts", projection="balance") == 1

    await eventually(parked)
    await store.append(sick[3])
    for _ in range(4):
        await load.write(100)
    events = await store.count()

    async def all_done() -> bool:
        return (await scrape(worker))(
            "bank_worker_batch_events_sum", projection="balance"
        ) == events

    await eventually(all_done, seconds=60, message="all is written or waits")
    sent, applied = await scrape(forwarder), await scrape(worker)
    assert sent("bank_forwarder_events_total") == events == 404
    assert sent("bank_forwarder_batch_events_sum") == events
    batches = sent("bank_forwarder_batches_total")
    assert batches == sent("bank_forwarder_publish_seconds_count")
    assert batches > sent("bank_forwarder_batch_events_count") > 0  # markers and tokens besides
    assert sent("bank_forwarder_leading") == 1
    assert (await scrape(standby))("bank_forwarder_leading") == 0

    assert applied("bank_worker_events_applied_total", projection="balance") == events - 1
    assert applied("bank_worker_events_waiting_total", projection="balance") == 1
    assert applied("bank_worker_accounts_parked_total", projection="balance") == 1
    assert applied("bank_worker_accounts_healed_total", projection="balance", cause="gap") == 1
    assert applied("bank_worker_accounts_healed_total", projection="balance", cause="unsound") == 0
    assert applied("bank_worker_batch_seconds_count", projection="balance") == applied(
        "bank_worker_batch_events_count", projection="balance"
    )
    assert 0 < applied("bank_worker_batch_seconds_sum", projection="balance") < 60 * PARTITIONS
    assert 30 < applied("bank_worker_documents_written_total", projection="balance") <= events - 2
    assert applied("bank_worker_events_duplicate_total", projection="balance") == 0
    for name in ("partitions_held", "partitions_ready"):
        assert applied(f"bank_worker_{name}", projection="balance") == PARTITIONS
    assert applied("bank_worker_leases_held") == PARTITIONS
    assert applied("bank_worker_leases_known") == 1
    assert applied("bank_worker_rebalances_total") >= 1


async def test_requests_and_commands_are_counted_by_what_they_are(settings: Settings) -> None:
    async with serving(create_app(settings)) as client:

        async def ask(method: str, path: str, **body: object) -> Any:
            async with client.request(method, path, json=body or None) as answer:
                return await answer.json()

        account = (await ask("POST", "/create", owner="Ann", money=5))["id"]
        for money in (3, 3, 0):
            await ask("POST", "/withdraw", id=account, money=money)
        await ask("PATCH", f"/{account}", owner="Bea")
        await ask("GET", f"/{account}")
        await ask("GET", f"/{NOBODY}")
        await ask("GET", f"/{account}/nothing/here")
        await ask("DELETE", f"/{account}")
        await ask("PURGE", f"/{account}")
        too_large = {"from": NOBODY, "to": "x" * 70_000, "money": 1}
        async with client.post("/transfer", json=too_large) as answer:
            assert answer.status == 413
        async with client.get("/metrics") as answer:
            told = parsed(await answer.text())

    def commands(kind: str, outcome: str) -> float:
        return told("bank_commands_total", kind=kind, outcome=outcome)

    def requests(route: str, method: str, status: int) -> float:
        return told("bank_http_requests_total", route=route, method=method, status=str(status))

    assert commands("create", "accepted") == 1
    assert commands("withdraw", "accepted") == 1
    assert commands("withdraw", "insufficient-funds") == 1
    assert commands("withdraw", "invalid-input") == 1
    assert commands("update_owner", "accepted") == 1
    assert commands("transfer", "body-too-large") == 1
    assert requests("/create", "POST", 201) == 1
    assert requests("/withdraw", "POST", 200) == 1
    assert requests("/withdraw", "POST", 422) == 1
    assert requests("/{id}", "GET", 200) == 1
    assert requests("/{id}", "GET", 404) == 1
    assert requests("other", "GET", 404) == 1
    assert requests("other", "DELETE", 405) == 1
    assert requests("other", "other", 405) == 1
    assert told("bank_http_request_seconds_count", route="/withdraw", method="POST") == 3
    assert 0 < told("bank_http_request_seconds_sum", route="/withdraw", method="POST") < 30
    assert not {each for each in told.label_values() if ACCOUNT.search(each)}


async def test_a_stream_is_counted_and_not_timed() -> None:
    registry = CollectorRegistry()
    requests = Requests(registry)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write_eof()
        return response

    app = web.Application(middlewares=[middleware(requests)])
    app.router.add_get("/stream", stream)
    async with TestClient(TestServer(app)) as client, client.get("/stream") as answer:
        assert answer.status == 200
    counted, _, timed = registry.collect()
    assert [sample.labels["route"] for sample in counted.samples] == ["/stream"]
    assert timed.samples == []


# ------------------------------------------------------------------ what is told, and what is not


def documented() -> dict[str, Table]:
    """The tables of the document: by role, and by name of the metric, its type and its labels."""
    roles: dict[str, Table] = {}
    for part in DOCUMENT.read_text().split("\n## ")[1:]:
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\| .{10,} \|$", part, re.MULTILINE)
        for role in SECTIONS.get(part.partition("\n")[0], ()):
            for name, kind, labels in rows:
                wanted = frozenset(labels.replace(",", " ").split())
                roles.setdefault(role, {})[name] = (kind, wanted)
    return roles


@pytest.mark.elasticsearch
async def test_every_metric_is_documented_and_none_tells_an_account(
    settings: Settings, role: Start, measured: Callable[[str], Awaitable[str]]
) -> None:
    accounts, balances = accounts_url(settings), balances_url(settings)
    addresses = {"accounts": accounts, "balances": balances}
    services = {address: await role("bank", name) for name, address in addresses.items()}
    forwarder, worker = await asyncio.gather(measured("forwarder"), measured("worker"))
    await asyncio.gather(*(is_ready(address, each) for address, each in services.items()))
    addresses |= {"forwarder": forwarder, "worker": worker}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{accounts}/create", json={"owner": "Ann", "money": 5}) as answer:
            account = (await answer.json())["id"]

        async def shown() -> bool:
            async with http.get(f"{balances}/{account}") as answer:
                return answer.status == 200

        await eventually(shown)
    table = documented()
    for name, address in addresses.items():

        async def agrees(name: str = name, address: str = address) -> bool:
            told = await scrape(address)
            assert told("bank_build_info", role=name, version="0.1.0") == 1
            check_families(told, table[name])
            return True

        await eventually(agrees, message=f"the metrics of {name} are those of the document")


def check_families(told: Scrape, table: Table) -> None:
    own = {name: each for name, each in told.families.items() if name.startswith("bank_")}
    assert own.keys() == table.keys()
    for name, each in told.families.items():
        assert each.meaning, name
        assert name.startswith(("bank_", "process_", "python_")), name
        assert name.endswith("_total") == (each.type == "counter"), name
    for name, each in own.items():
        kind, labels = table[name]
        assert (each.type, each.labels) == (kind, labels), name
    assert {"process_resident_memory_bytes", "python_gc_collections_total"} <= told.families.keys()
    assert not {value for value in told.label_values() if ACCOUNT.search(value)}


# ------------------------------------------------------------------ the listener


@pytest.mark.parametrize("name", ["forwarder", "worker"])
async def test_a_role_that_waits_lives_and_says_for_what(
    settings: Settings, role: Start, name: str
) -> None:
    port, nowhere = free_port(), f"nats://127.0.0.1:{free_port()}"
    started = await role("bank", name, BANK_METRICS_PORT=str(port), BANK_NATS_URL=nowhere)
    address = f"http://127.0.0.1:{port}"

    async def waits() -> bool:
        return (await ready(address)).startswith("Waiting for nats")

    await eventually(waits, seconds=60)
    async with aiohttp.ClientSession() as http, http.get(f"{address}/livez") as answer:
        assert answer.status == 200
    assert (await scrape(address))("bank_build_info", role=name, version="0.1.0") == 1
    assert started.exit_code is None


@pytest.mark.parametrize("name", ["forwarder", "worker"])
async def test_a_taken_port_is_an_error_that_names_the_setting(
    settings: Settings, role: Start, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = await role("bank", name, BANK_METRICS_PORT=str(port))
        assert await started.wait(60) == 1
    assert f"bank: The metrics of the {name} can't listen on 127.0.0.1:{port}" in started.log()
    assert "Set BANK_METRICS_PORT to another one" in started.log()
    assert "Traceback" not in started.log()


async def test_a_caller_who_hangs_or_talks_nonsense_harms_no_role(
    settings: Settings, role: Start
) -> None:
    port = free_port()
    forwarder = await role("bank", "forwarder", BANK_METRICS_PORT=str(port))
    address = f"http://127.0.0.1:{port}"
    await is_ready(address, forwarder)
    callers = []
    for words in (b"GET /metrics HT", b"\x00\xff\r\n\r\n", b""):
        callers.append((await asyncio.open_connection("127.0.0.1", port))[1])
        callers[-1].write(words)
        await callers[-1].drain()
    assert (await scrape(address))("bank_forwarder_leading") == 1
    assert await forwarder.stop(10) == 0, forwarder.log()
    assert "Traceback" not in forwarder.log()
    for caller in callers:
        caller.close()
        with suppress(OSError):
            await caller.wait_closed()


# ------------------------------------------------------------------ how it is made


class Snapshot:
    """A collector with something to fetch first."""

    def __init__(self) -> None:
        self.value = 0

    async def refresh(self) -> None:
        self.value += 1

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bank_x", "X", self.value)


async def test_a_snapshot_is_refreshed_before_each_scrape(settings: Settings) -> None:
    shown, snapshot = Metrics("test"), Snapshot()
    shown.register(snapshot, before_scrape=snapshot.refresh)
    async with exposed(settings, shown, {}) as address:
        assert [(await scrape(address))("bank_x") for _ in range(3)] == [1, 2, 3]


async def test_a_snapshot_that_fails_or_hangs_keeps_nothing_else_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "PATIENCE", 0.05)
    shown, snapshot = Metrics("test"), Snapshot()

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise ValueError("no figures")

    shown.register(snapshot, before_scrape=hang)
    shown.register(Other(), before_scrape=fail)
    text, _ = await shown.exposition()
    assert parsed(text.decode())("bank_x") == 0
    assert parsed(text.decode())("bank_y") == 1
    assert "no figures" in caplog.text
    assert "TimeoutError" in caplog.text


class Other:
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bank_y", "Y", 1)


async def test_prometheus_may_ask_for_openmetrics(settings: Settings) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    async with (
        exposed(settings, Metrics("test"), {}) as address,
        aiohttp.ClientSession() as http,
        http.get(f"{address}/metrics", headers=accept) as answer,
    ):
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


FORWARDED = {
    "bank_forwarder_events_total": "forwarded",
    "bank_forwarder_batches_total": "batches",
    "bank_forwarder_resyncs_total": "resyncs",
    "bank_forwarder_fenced_total": "fenced",
    "bank_forwarder_skipped_total": "skipped",
}
APPLIED = {
    "bank_worker_events_applied_total": "applied",
    "bank_worker_events_duplicate_total": "duplicates",
    "bank_worker_events_reordered_total": "reordered",
    "bank_worker_events_waiting_total": "waiting",
    "bank_worker_messages_unreadable_total": "unreadable",
    "bank_worker_accounts_parked_total": "parked",
    "bank_worker_accounts_repaired_total": "repaired",
    "bank_worker_documents_written_total": "documents",
    "bank_worker_partitions_synchronised_total": "backfilled",
    "bank_worker_partitions_retaken_total": "reacquired",
}


def numbered(counters: Any, first: int) -> dict[str, int]:
    """Give every plain counter a number of its own."""
    names = [each.name for each in dataclasses.fields(counters) if each.type in (int, "int")]
    values = {name: number for number, name in enumerate(names, first)}
    for name, value in values.items():
        setattr(counters, name, value)
    return values


async def test_each_figure_of_a_forwarder_is_its_own() -> None:
    seen = forwarder_metrics.ForwarderMetrics()
    values = numbered(seen.counters, 10)
    text, _ = await forwarder_metrics.forwarder_metrics(seen).exposition()
    told = parsed(text.decode())
    assert {name: told(name) for name in FORWARDED} == {
        name: values.pop(field) for name, field in FORWARDED.items()
    }
    assert not values


async def test_each_figure_of_a_worker_is_its_own() -> None:
    ownership = Ownership(PartitionLeases("redis://127.0.0.1:1", "worker", 2))
    ownership.rebalances = 7
    counters = Counters()
    values = numbered(counters, 10)
    agent = ProjectionAgent(faust.App("test", broker="nats://127.0.0.1:1"), BALANCE)
    agent.counters = counters
    seen = worker_metrics.WorkerMetrics(ownership, [agent])
    text, _ = await worker_metrics.worker_metrics(seen).exposition()
    await ownership.leases.close()
    told = parsed(text.decode())
    assert {name: told(name, projection="balance") for name in APPLIED} == {
        name: values.pop(field) for name, field in APPLIED.items()
    }
    for cause, field in (("gap", "gaps"), ("unsound", "unsound")):
        healed = told("bank_worker_accounts_healed_total", projection="balance", cause=cause)
        assert healed == values.pop(field)
    assert not values
    assert told("bank_worker_rebalances_total") == 7
    assert told("bank_worker_leases_known") == 0
