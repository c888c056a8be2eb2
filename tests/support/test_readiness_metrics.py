"""What `/readyz` says is a gauge too, and the age of the log's token is told or not known."""

import asyncio
import json
import math
import time
from typing import cast

import pytest

from pipeline.coordination.leases import Lease
from pipeline.embedded.health import ready
from pipeline.eventstore import token_time
from pipeline.forwarder.metrics import ForwarderMetrics, forwarder_metrics
from pipeline.forwarder.service import run
from pipeline.forwarder.stream_publisher import PublisherCounters
from pipeline.messaging import TOKEN_HEADER, JetStream
from pipeline.support import metrics as measuring
from pipeline.support.metrics import Metrics
from pipeline.support.metrics_server import exposed
from pipeline.support.readiness import Checks, NotReady, show_readiness
from pipeline.support.settings import Settings
from tests.harness import eventually
from tests.names import STREAM
from tests.scrape import parsed, scrape

TOKEN = "8262E2EE54000000022B0229296E04"
"""MongoDB's, of 1659039316 s and increment 2."""


async def test_a_role_tells_what_it_waits_for_and_when_it_has_it(settings: Settings) -> None:
    down = True

    async def nats() -> None:
        if down:
            raise NotReady

    async def redis() -> None:
        pass

    checks = {"nats": nats, "redis": redis}
    async with exposed(settings, Metrics("worker"), checks) as address:
        told = await scrape(address)
        assert told("bank_ready", role="worker", need="nats") == 0
        assert told("bank_ready", role="worker", need="redis") == 1
        down = False
        assert (await scrape(address))("bank_ready", role="worker", need="nats") == 1


async def test_a_warning_leaves_a_role_ready(settings: Settings) -> None:
    warns = "two of three"

    async def nats() -> str:
        return warns

    async def redis() -> None:
        return None

    checks: Checks = {"nats": nats, "redis": redis}
    async with exposed(settings, Metrics("worker"), checks) as address:
        told = await scrape(address)
        assert told("bank_ready", role="worker", need="nats") == 1
        assert told("bank_warning", role="worker", need="nats") == 1
        assert told("bank_warning", role="worker", need="redis") == 0
        assert await ready(address) == "ok; two of three"
        warns = ""
        assert (await scrape(address))("bank_warning", role="worker", need="nats") == 0
        assert await ready(address) == "ok"


async def test_a_check_that_hangs_shows_nothing_as_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = False

    async def nats() -> None:
        if hangs:
            await asyncio.Event().wait()

    metrics = Metrics("worker")
    show_readiness(metrics, {"nats": nats})

    async def told() -> float:
        text, _ = await metrics.exposition()
        return parsed(text.decode())("bank_ready", role="worker", need="nats")

    assert await told() == 1
    monkeypatch.setattr(measuring, "PATIENCE", 0.05)
    hangs = True
    assert await told() == 0


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (TOKEN, 1659039316.0),
        ("2f00000010730004000000", None),
        ("82", None),
        ("no hex", None),
        (7, None),
    ],
)
def test_the_time_of_a_token_is_read_where_there_is_one(
    data: object, seconds: float | None
) -> None:
    assert token_time(json.dumps({"collection": "x", "after": {"_data": data}})) == seconds


@pytest.mark.parametrize("token", [None, "", "no json", "[]", '{"after": null}'])
def test_what_is_no_token_has_no_time(token: str | None) -> None:
    assert token_time(token) is None


class _Held:
    held = True


async def test_only_a_leader_tells_the_age_of_the_token() -> None:
    seen = ForwarderMetrics()
    at = int(time.time()) - 100
    data = f"82{at:08x}{TOKEN[10:]}"
    seen.counters.token = json.dumps({"collection": "x", "after": {"_data": data}})

    async def age() -> float:
        text, _ = await forwarder_metrics(seen).exposition()
        return parsed(text.decode())("bank_forwarder_token_age_seconds")

    assert math.isnan(await age())
    seen.lease = cast(Lease, _Held())
    assert 99 <= await age() <= 110
    seen.counters.token = None
    assert math.isnan(await age())


async def test_a_forwarder_knows_the_token_at_the_end_of_the_log(settings: Settings) -> None:
    async def last() -> str | None:
        js = await JetStream.connect(settings.nats_url, "test")
        try:
            message = await js.last_message(STREAM)
            return message.headers.get(TOKEN_HEADER) if message else None
        finally:
            await js.close()

    async def knows() -> bool:
        return counters.token is not None and counters.token == await last()

    for batches in (1, 0):  # it asks for a resync; a second one only finds what the first wrote
        counters, stop = PublisherCounters(), asyncio.Event()
        work = asyncio.create_task(run(settings, stop=stop, counters=counters))
        await eventually(knows)
        assert counters.batches == batches
        stop.set()
        await work
