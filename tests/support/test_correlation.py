"""Log lines say by correlation id whose they are: those of a request, and those about events."""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

from api.http import correlation as header
from api.server import application
from pipeline.agents.apply import log as applying
from pipeline.embedded.up import accounts_url
from pipeline.forwarder.leader import log as forwarding
from pipeline.messaging.event_messages import event_messages
from pipeline.support import logs
from pipeline.support.correlation import about, current, detached, serving
from pipeline.support.metrics import Metrics
from pipeline.support.settings import Settings
from tests.bank import history
from tests.harness import Role, eventually
from tests.services import serving as served

log = logging.getLogger(__name__)


@pytest.fixture
def lines(settings: Settings) -> Iterator[Callable[[str], io.StringIO]]:
    """`lines("json")` sends this process's log, in that format, to what it returns."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(form: str) -> io.StringIO:
        stream = io.StringIO()
        logs.setup(settings.model_copy(update={"log_format": form}), "accounts", stream)
        return stream

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def as_json(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# ------------------------------------------------------------------ a line


def test_a_line_of_text_has_the_ids_in_brackets(lines: Callable[[str], io.StringIO]) -> None:
    stream = lines("text")
    log.info("nobody's")
    with serving("order 66"):
        log.info("one's")
    log.info("many's", extra=about([{"correlation_id": "a"}, {"correlation_id": "b"}]))
    shown = [line.partition(__name__)[2] for line in stream.getvalue().splitlines()]
    assert shown == [": nobody's", " [order 66]: one's", " [a b]: many's"]


def test_a_line_of_json_has_the_ids_as_fields(lines: Callable[[str], io.StringIO]) -> None:
    stream = lines("json")
    log.info("nobody's")
    with serving("order 66"):
        log.info("one's")
    log.info("many's", extra=about([{"correlation_id": "a"}, {"correlation_id": "b"}]))
    fields = [
        {name: line[name] for name in line if name.startswith("correlation")}
        for line in as_json(stream)
    ]
    assert fields == [{}, {"correlation_id": "order 66"}, {"correlation_ids": ["a", "b"]}]


def test_poison_may_have_any_id_or_none() -> None:
    poison = [{"correlation_id": 7}, {}, None, "text", {"correlation_id": "x" * 1000}]
    assert about(poison) == {"correlation_ids": ["x" * 100]}


async def test_a_task_for_all_serves_no_request() -> None:
    async def whose() -> str | None:
        return current()

    with serving("order 66"):
        assert await asyncio.create_task(whose()) == "order 66"
        assert await detached(whose()) is None
    assert current() is None


# ------------------------------------------------------------------ a request


async def test_whatever_a_request_logs_carries_its_id(
    settings: Settings, lines: Callable[[str], io.StringIO]
) -> None:
    async def work(_: web.Request) -> web.Response:
        log.warning("looked up")
        await asyncio.create_task(asyncio.to_thread(log.warning, "in a thread"))
        raise ZeroDivisionError

    routes = [web.get("/work", work)]
    app = application(settings, routes, {}, lambda _: None, Metrics("accounts"))
    async with served(app) as client:
        stream = lines("json")
        ids = [f"request {number}" for number in range(5)]

        async def ask(given: str) -> None:
            async with client.get("/work", headers={header.HEADER: given}) as answer:
                assert answer.status == 500
                assert given in (await answer.json(content_type=None))["detail"]

        await asyncio.gather(*map(ask, ids))
    told = [(line["correlation_id"], line["message"]) for line in as_json(stream)]
    said = ["looked up", "in a thread", "GET /work failed"]
    assert sorted(told) == sorted((each, message) for each in ids for message in said)


# ------------------------------------------------------------------ from HTTP to the bulk


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_every_role_tells_at_debug_whose_events_it_carries(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    debug = {"BANK_LOG_LEVEL": "DEBUG", "BANK_LOG_FORMAT": "json"}
    roles = [await role("bank", name, **debug) for name in ("forwarder", "worker", "accounts")]
    await eventually(lambda: "listening on" in roles[2].log(), seconds=60)

    forwarder, worker, accounts = roles
    carried = {
        (accounts, "pipeline.commands.command_batcher"): "Stored 1 events",
        (accounts, "aiohttp.access"): "POST /create",
        (forwarder, forwarding.name): "Forwarded 1 events, up to sequence",
        (worker, applying.name): "Applied 1 events to balance-1",
    }

    async def all_told() -> bool:
        """Of one of some commands: what is stored before the worker looks is backfilled."""
        await opened(settings, "order 66")
        return all(
            any(said in line["message"] for line in told_of(each, logger, "order 66"))
            for (each, logger), said in carried.items()
        )

    await eventually(all_told, seconds=60, every=0.5, message="all have told of it")


async def opened(settings: Settings, correlation_id: str) -> None:
    url, given = f"{accounts_url(settings)}/create", {"owner": "Ann", "money": 5}
    headers = {header.HEADER: correlation_id}
    async with ClientSession() as http, http.post(url, json=given, headers=headers) as answer:
        assert answer.status == 201


def told_of(role: Role, logger: str, correlation_id: str) -> list[dict[str, Any]]:
    """The whole lines of a logger that are about this id."""
    found = [json.loads(line) for line in role.log().splitlines() if line.endswith("}")]
    return [
        line
        for line in found
        if line["logger"] == logger
        and correlation_id in (*line.get("correlation_ids", ()), line.get("correlation_id"))
    ]


# ------------------------------------------------------------------ what is not usual


def test_a_skipped_document_is_told_by_its_id(caplog: pytest.LogCaptureFixture) -> None:
    [event] = history("01JD0000000000000000000000", 1)
    wrong: Any = {**event, "slot": -1}
    assert event_messages([wrong], 8, 1_000_000) == ([], 1)
    [told] = [each for each in caplog.records if "Skipped" in each.getMessage()]
    assert told.__dict__["correlation_ids"] == [event["correlation_id"]]
