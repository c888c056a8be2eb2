"""The page without a projection `balance`: a reading tells which ones there are."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from tests.page.bank import Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def reading(bank: Bank) -> dict[str, Any]:
    """One of the bank, as if its first projection were another one."""
    async with aiohttp.ClientSession(bank.address) as http, http.get("/pipeline") as answer:
        found: dict[str, Any] = await answer.json()
    first, *_ = found["projected"]
    return {**found, "projected": [{**first, "projection": "places"}]}


async def test_nothing_is_asked_of_a_projection_that_there_is_not(
    page: Tab, reading: dict[str, Any]
) -> None:
    known = asyncio.Event()

    async def readings(route: Route) -> None:
        await known.wait()
        told = f"event: pipeline\ndata: {json.dumps(reading)}\n\n"
        await route.fulfill(content_type="text/event-stream", body=told)

    async def parked(route: Route) -> None:
        await route.fulfill(json={"data": [], "has_more": False})

    await page.page.route("**/pipeline/events", readings)
    await page.page.route("**/parked?**", parked)
    await page.show("parked")
    await page.says("Reading…", where="#view")
    await page.show("rebuild")
    await page.says("The last ones", where="#view")
    names = page.page.locator("#rebuild-projection option")
    await expect(names).to_have_count(0)
    assert not [each for each in page.asked if "/parked?" in each]
    known.set()
    await expect(names).to_have_text(["places"])
    await page.show("parked")
    await page.says("No account is parked.", where="#view")
    lists = [each for each in page.asked if "/parked?" in each]
    assert all(each.endswith("/parked?projection=places") for each in lists), lists
