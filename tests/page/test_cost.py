"""What the page waits for before it shows the pipeline, and what a tab keeps of the readings."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.harness import LONG_LANE, eventually
from tests.page import canned as service_module
from tests.page.browser import Tab, tab
from tests.page.canned import Canned, canned, reading
from tests.page.places import answers, hour

pytestmark = pytest.mark.asyncio(loop_scope="session")

MINUTE: Final = 60
"""Readings: one a second."""


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Canned]:
    async with canned() as started:
        started.answers |= answers()
        started.hour = hour()
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, service: Canned) -> AsyncIterator[Tab]:
    async with tab(browser, service.address, refusals=True) as opened:
        yield opened


async def test_the_pipeline_waits_for_one_answer(page: Tab, service: Canned) -> None:
    """Who the reader is; whatever else the overview asks for comes when it comes."""

    async def never(request: Any) -> None:
        await asyncio.Event().wait()

    who = service.answers["/whoami"]
    service.answers = {**dict.fromkeys(service.answers, never), "/whoami": who}
    await page.show()
    await expect(page.page.locator(".stage")).to_have_count(5)


@LONG_LANE
@pytest.mark.parametrize("view", ["overview", "partitions", "parked"])
async def test_five_minutes_of_readings_keep_no_memory(
    page: Tab, service: Canned, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    monkeypatch.setattr(service_module, "EVERY", 0.05)
    came, began = 0, datetime.now(UTC)

    def next_reading() -> dict[str, Any]:
        nonlocal came
        came += 1
        at = (began + timedelta(seconds=came)).isoformat(timespec="milliseconds")
        stored = {"events": 1000 + came, "rate": came % 30, "unknown": None}
        return reading(at=at.replace("+00:00", "Z"), stored=stored)

    service.reading = next_reading
    await page.show(view)
    await page.says("Live", where="#live")
    measured = await metrics(page)

    async def after(readings: int) -> dict[str, float]:
        async def have_come() -> bool:
            return came >= readings

        await eventually(have_come, seconds=300)
        return await measured()

    # Three minutes are kept on purpose, for the small charts.
    full, last = await after(3 * MINUTE), await after(8 * MINUTE)
    assert last["JSHeapUsedSize"] < 1.3 * full["JSHeapUsedSize"]
    assert last["Nodes"] < 1.1 * full["Nodes"]
    assert last["JSEventListeners"] <= full["JSEventListeners"] + 5


async def metrics(page: Tab) -> Callable[[], Awaitable[dict[str, float]]]:
    """Measures the tab, without what is garbage."""
    chromium = await page.page.context.new_cdp_session(page.page)
    await chromium.send("Performance.enable")

    async def measured() -> dict[str, float]:
        await chromium.send("HeapProfiler.collectGarbage")
        found: Any = await chromium.send("Performance.getMetrics")
        return {each["name"]: each["value"] for each in found["metrics"]}

    return measured
