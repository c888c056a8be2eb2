"""Spans: off they cost and need nothing; on, one trace goes from the request to the bulk."""

import ast
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.accounts.app import create_app
from pipeline.embedded.up import accounts_url
from pipeline.eventstore import EventStore
from pipeline.support import tracing
from pipeline.support.settings import Settings
from tests.commands import Command, create, opened, send, transfer
from tests.harness import Role, eventually
from tests.services import Client, serving

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"
UNINSTALLED = "import sys; sys.modules['opentelemetry'] = None; "


# ------------------------------------------------------------------ off


def test_only_one_module_imports_opentelemetry_and_only_when_it_is_used() -> None:
    found: dict[str, set[int]] = {}
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("api/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            module = getattr(node, "module", None) or ""
            if any(each.startswith("opentelemetry") for each in (module, *names)):
                found.setdefault(path.name, set()).add(getattr(node, "col_offset", 0))
    assert found.keys() == {"tracing.py"}
    assert 0 not in found["tracing.py"]


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", UNINSTALLED + code],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_off_nothing_of_it_needs_to_be_installed() -> None:
    done = python(
        "from pipeline.support import tracing; import pipeline.app; "
        "from pipeline.support.settings import load; "
        "tracing.setup(load(), 'worker'); print(tracing.on(), tracing.traceparent())\n"
        "with tracing.carrying('x', [{}]): print('carried')"
    )
    assert done.stdout.split() == ["False", "None", "carried"], done.stderr


@pytest.mark.parametrize("role", ["forwarder", "worker", "up"])
def test_on_and_not_installed_is_an_error_that_tells_what_to_do(role: str, tmp_path: Path) -> None:
    code = f"from pipeline.cli.main import main; main(['{role}'])"
    done = python(code, BANK_TRACES="otlp", BANK_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("bank: BANK_TRACES: otlp needs OpenTelemetry"), done.stderr
    assert "pip install 'bank-transfer[otel]'" in done.stderr


async def test_off_an_event_knows_nothing_of_it(settings: Settings) -> None:
    async with serving(create_app(settings)) as bank:
        account = await opened(bank)
        async with bank.get(f"/{account}/events") as answer:
            [event] = (await answer.json())["data"]
    assert "traceparent" not in event


# ------------------------------------------------------------------ on, in this process


@pytest.fixture
def made() -> Iterator[InMemorySpanExporter]:
    """The spans that this process makes, as soon as each has ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("test"))
    yield exporter
    tracing.use(None)


@pytest.fixture
async def bank(settings: Settings, made: InMemorySpanExporter) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as client:
        made.clear()
        yield client


def named(made: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in made.get_finished_spans() if span.name == name]


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Of its trace, and of its parent."""
    context = span.get_span_context()
    assert context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return f"{context.trace_id:032x}", parent


async def test_a_request_is_a_span_of_the_trace_that_it_names(
    bank: Client, made: InMemorySpanExporter
) -> None:
    headers = {"traceparent": GIVEN, "X-Correlation-ID": "order 66"}
    async with bank.post("/create", json={"owner": "Ann", "money": 1}, headers=headers) as answer:
        account = (await answer.json())["id"]
    async with bank.get("/nowhere/at/all", headers=headers) as answer:
        assert answer.status == 404
    [span], [lost] = named(made, "POST /create"), named(made, "GET")
    assert ids(span) == ids(lost) == (TRACE, PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/create",
        "http.response.status_code": 201,
        "bank.correlation_id": "order 66",
    }
    [append] = named(made, "append")
    context = span.get_span_context()
    assert context is not None
    assert ids(append) == (TRACE, f"{context.span_id:016x}")
    async with bank.get(f"/{account}/events") as answer:
        [event] = (await answer.json())["data"]
    assert event["traceparent"] == f"00-{TRACE}-{context.span_id:016x}-01"


async def test_a_fault_of_ours_is_an_error_and_a_refusal_is_none(
    bank: Client, made: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await opened(bank)
    await send(bank, Command("POST", "/withdraw", {"id": account, "money": 9}))

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(EventStore, "append_row", broken)
    await send(bank, create())
    [refused] = named(made, "POST /withdraw")
    _, failed = named(made, "POST /create")
    assert (refused.status.is_ok, failed.status.is_ok) == (True, False)


async def test_both_legs_of_a_transfer_are_of_its_trace(
    bank: Client, made: InMemorySpanExporter
) -> None:
    source, target = await opened(bank, 10), await opened(bank, 0)
    made.clear()
    await send(bank, transfer(source, target, 3))
    [request], [append] = named(made, "POST /transfer"), named(made, "append")
    assert ids(append)[0] == ids(request)[0]
    assert (append.attributes or {})["bank.events"] == 2


def test_a_batch_of_many_requests_links_to_each(made: InMemorySpanExporter) -> None:
    other = GIVEN.replace(TRACE, TRACE[::-1])
    events = [{"traceparent": each} for each in (GIVEN, other, GIVEN, "junk", 7)]
    with tracing.carrying("forward", [*events, {}], "PRODUCER"):
        pass
    with tracing.carrying("forward", []):
        pass
    [span] = named(made, "forward")
    linked = [f"{each.context.trace_id:032x}" for each in span.links]
    assert linked == [TRACE, TRACE[::-1]]
    assert ids(span)[1] == ""
    assert ids(span)[0] not in linked


# ------------------------------------------------------------------ on, over OTLP


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, dict[str, list[Any]]]]:
    """A little receiver of OTLP over HTTP: its address, and the spans by service so far."""
    received: dict[str, list[Any]] = {}

    async def take(request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for each in sent.resource_spans:
            about = {a.key: a.value.string_value for a in each.resource.attributes}
            kept = received.setdefault(about["service.name"], [])
            kept += [span for scope in each.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with TestServer(app) as server:
        yield str(server.make_url("")), received


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_one_trace_goes_from_the_request_to_the_bulk(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    async with collector() as (address, received):
        told = {
            "BANK_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        for name in ("forwarder", "worker", "accounts"):
            await role("bank", name, **told)

        async def whole() -> bool:
            """Of some request: what is stored before the worker looks is backfilled."""
            async with (
                ClientSession() as http,
                http.post(
                    f"{accounts_url(settings)}/create",
                    json={"owner": "Ann", "money": 5},
                    headers={"traceparent": GIVEN},
                ) as answer,
            ):
                assert answer.status == 201
            return "POST /create" in ways(received)["bulk"]

        await eventually(whole, seconds=120, every=0.5, message="a whole trace")
        await eventually(lambda: all_in_place(received))
        services = {name for name, sent in received.items() if traced(sent)}
    assert services == {"bank-accounts", "bank-forwarder", "bank-worker"}


def all_in_place(received: dict[str, list[Any]]) -> bool:
    """A service sends its spans by time: that of the last request may come after what is in it."""
    request = ("POST /create",)
    assert ways(received) == {
        "POST /create": (),
        "append": request,
        "forward": request,
        "apply": request,
        "bulk": ("apply", *request),
    }
    return True


def traced(sent: list[Any]) -> list[Any]:
    return [span for span in sent if span.trace_id.hex() == TRACE]


def ways(received: dict[str, list[Any]]) -> dict[str, tuple[str, ...]]:
    """The names of what each span of the trace is in, from the inside out; the last one's."""
    every = {span.span_id: span for sent in received.values() for span in traced(sent)}

    def way(span: Any) -> Iterator[str]:
        while (span := every.get(span.parent_span_id)) is not None:
            yield span.name

    return {"bulk": (), **{span.name: tuple(way(span)) for span in every.values()}}
