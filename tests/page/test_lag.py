"""How far behind: the lag of the last hour, its thresholds, and which partition is furthest."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.page.browser import Tab, tab
from tests.page.canned import Canned, canned, reading

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Canned]:
    async with canned() as made:
        made.hour = hour([0.0] * 300 + [40.0] + [0.5] * 59)
        made.answers["/partitions/hour"] = {
            "at": made.hour["at"],
            "lag_seconds": [[0.0] * 360, [0.0] * 300 + [40.0] + [0.5] * 59],
        }
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, service: Canned) -> AsyncIterator[Tab]:
    async with tab(browser, service.address) as opened:
        await opened.show()
        yield opened


def hour(lag: list[float]) -> dict[str, Any]:
    """Points until now, with this lag of `balance`."""
    last = int(time.time()) // 10 * 10
    rates = [12.0] * len(lag)
    course = {"rate": rates, "lag_seconds": lag}
    return {
        "at": [last - 10 * (len(lag) - number) for number in range(len(lag))],
        "commands": rates,
        "stored": rates,
        "forwarded": course,
        "projected": {"balance": course},
    }


def late(seconds: float, alarm: str | None, since: str | None) -> dict[str, Any]:
    found = reading()
    furthest = {"partition": 3, "lag_seconds": seconds, "since": since}
    balance = {"alarm": alarm, "lag_seconds": seconds, "lag_events": 7, "furthest": furthest}
    found["projected"][0].update(balance)
    return found


async def test_it_comes_first_with_the_last_hour_and_its_partitions(page: Tab) -> None:
    await expect(page.page.locator("h2").first).to_have_text("How far behind")
    lag = page.page.locator("[data-key=balance].lag")
    await expect(lag.locator(".behind")).to_have_text("up to date")
    await expect(lag.locator(".pair canvas")).to_have_count(2)
    await expect(lag).to_contain_text("Seconds behind, at most 40 s in the last hour.")
    await expect(lag).to_contain_text("Commands a second, at most 12 in the last hour.")
    await expect(page.page.locator("[data-key=statement].lag")).to_contain_text("nothing known")
    await lag.get_by_text("By partition").click()
    await expect(lag.locator("details canvas")).to_be_visible()
    await expect(lag.locator("details")).to_contain_text("Partition 1 was furthest behind, by 40 s")
    assert await page.violations() == []


async def test_the_furthest_partition_is_told_and_amber_turns_to_red(
    page: Tab, service: Canned
) -> None:
    lag = page.page.locator("[data-key=balance].lag")
    trouble = page.page.locator("#troubles [data-key=late]")
    service.reading = lambda: late(3.0, None, None)
    await expect(lag.locator(".furthest")).to_have_text("Furthest behind: partition 3, by 3.0 s.")
    await expect(trouble).not_to_be_attached()
    since = "2026-11-27T14:00:00.000Z"
    for seconds, alarm, word, tone in (
        (12.0, "amber", "late", "warn"),
        (45.0, "red", "very late", "bad"),
    ):
        service.reading = lambda seconds=seconds, alarm=alarm: late(seconds, alarm, since)  # type: ignore[misc]
        await expect(lag.locator(".badge")).to_have_text(word)
        await expect(lag.locator(".furthest")).to_contain_text(
            f"partition 3, by {seconds:.0f} s, late since 14:00:00 UTC"
        )
        await expect(trouble).to_contain_text(f"balance is {seconds:.0f} s behind.")
        await expect(trouble).to_have_class(f"box {tone}")
