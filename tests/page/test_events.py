"""Events as they are forwarded: filtered, stopped, followed to one; many are little work."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from api.balances.app import create_app
from api.balances.feed import FeedQuery, Feeds
from pipeline.operations.feed.position import Position
from tests.conftest import placed
from tests.harness import LONG_LANE, eventually
from tests.page.bank import Bank
from tests.page.browser import Tab, tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS: Final = "main tbody tr"
RATE: Final = 200
ODD: Final = "01JD0000000000000000000ODD"


def line(number: int) -> bytes:
    """An event as the feed sends it; each hundredth is of another account."""
    account = ODD if number % 100 == 0 else f"01JD{number % 50:022}"
    event = {
        "id": f"01JE{number:022}",
        "type": "MoneyWithdrawn" if number % 2 else "MoneyDeposited",
        "subject": account,
        "time": "2026-11-27T14:00:00.000Z",
        "version": number + 1,
        "position": f"0.{number}.0",
        "correlationid": f"order {number}",
        "data": {"body": {"money": number, "description": "\u202e" + "x" * 99}},
    }
    return b"data: %b\n\n" % orjson.dumps(event)


async def flood(
    feeds: Feeds, after: Position, kinds: Sequence[str] | None, schemas: str
) -> AsyncGenerator[bytes | None, None]:
    """So many events a second, as many as have come due when it is this task's turn."""
    began = time.monotonic()
    for sent in itertools.count(step=RATE // 10):
        yield b"".join(map(line, range(sent, sent + RATE // 10)))
        yield None
        await asyncio.sleep(max(0.0, began + sent / RATE - time.monotonic()))


async def start(feeds: Feeds, asked: FeedQuery, last: Position | None) -> Position:
    return Position("0", 0)


@pytest_asyncio.fixture(loop_scope="session")
async def busy(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Tab]:
    """The events of a service without servers, which has very many."""
    monkeypatch.setattr(Feeds, "start", start)
    monkeypatch.setattr(Feeds, "news", flood)
    async with TestServer(create_app(placed(tmp_path_factory.mktemp("busy")))) as server:
        address = str(server.make_url("")).rstrip("/")
        async with tab(browser, address, refusals=True) as opened:
            yield opened


async def came(page: Tab) -> int:
    """How many events came, as the page says."""
    words = await page.page.get_by_text(re.compile(" came")).inner_text()
    return int(words.partition(" ")[0].replace(",", ""))


async def came_since(page: Tab) -> int:
    """How many came since it was stopped."""
    words = await page.page.get_by_text(re.compile("^Stopped")).inner_text()
    found = re.search("([0-9,]+) events? came", words)
    return int(found[1].replace(",", "")) if found else 0


async def more_came(page: Tab, before: int) -> bool:
    return await came_since(page) > before


async def has(page: Tab, events: int) -> bool:
    return await came(page) >= events


@LONG_LANE
async def test_two_hundred_a_second_are_little_work_and_keep_no_memory(busy: Tab) -> None:
    await busy.show("events")
    rows = busy.page.locator(ROWS)
    await expect(rows).to_have_count(100)
    chromium = await busy.page.context.new_cdp_session(busy.page)
    await chromium.send("Performance.enable")

    async def after(events: int) -> dict[str, float]:
        await eventually(lambda: has(busy, events), every=0.2)
        await chromium.send("HeapProfiler.collectGarbage")
        found: Any = await chromium.send("Performance.getMetrics")
        measured = {each["name"]: each["value"] for each in found["metrics"]}
        return {**measured, "events": await came(busy)}

    first, last = await after(1000), await after(2500)
    spent = (last["ThreadTime"] - first["ThreadTime"]) / (last["events"] - first["events"])
    assert spent * RATE < 0.25, f"{spent * RATE:.3f} of a core"
    assert last["JSHeapUsedSize"] - first["JSHeapUsedSize"] < 2_000_000
    assert last["Nodes"] - first["Nodes"] < 2000
    await expect(rows).to_have_count(100)


async def test_what_fits_is_kept_and_the_rest_goes_by(busy: Tab) -> None:
    await busy.show(f"events?account={ODD}")
    rows = busy.page.locator(ROWS)
    await expect(rows.nth(2)).to_be_visible()
    assert set(await rows.locator("td:nth-child(3)").all_inner_texts()) == {ODD}
    await busy.page.get_by_label("Id of the account").fill("")
    await busy.page.get_by_label("Kind").select_option("MoneyWithdrawn")
    await expect(rows.first).to_contain_text("Paid out")
    await expect(busy.page.locator(ROWS, has_text="Paid in")).to_have_count(0)
    await expect(rows.first).to_contain_text("U+202E")  # and so it turns nothing

    await busy.press("Stop here")
    stopped = await rows.all_inner_texts()
    before = await came_since(busy)
    await eventually(lambda: more_came(busy, before), every=0.1)
    assert await rows.all_inner_texts() == stopped
    await busy.press("Go on with new events")
    await busy.page.get_by_label("Text").fill("ORDER 77")
    await expect(rows.first).to_contain_text("order 77")
    await expect(busy.page).to_have_url(re.compile("kind=MoneyWithdrawn.*text=ORDER"))


async def written_are_heard(bank: Bank) -> bool:
    """Whether the service learns of what each worker writes from now on."""
    await asyncio.gather(*(bank.command("/create", owner="Busy", money=1) for _ in range(20)))
    async with bank.http.get(f"{bank.address}/stages") as answer:
        stages = {each["stage"]: each["events"] for each in (await answer.json())["data"]}
    return bool(stages["visible"] >= 20)


async def test_from_an_event_to_its_neighbours_and_its_trace(page: Tab, bank: Bank) -> None:
    await eventually(lambda: written_are_heard(bank), every=0.5)
    account = await bank.account("Ada Lovelace", 7, 8)
    await page.show(f"events?account={account}")
    await expect(page.page.locator(ROWS)).to_have_count(3)
    await page.page.get_by_role("link", name="Paid in").last.click()
    await page.says('"money": 7', where="[aria-labelledby=this]")
    await page.says('"owner": "Ada Lovelace"', where="[aria-labelledby=before]")
    await page.says('"money": 8', where="[aria-labelledby=after]")
    assert await page.violations() == []
    await page.page.get_by_role("link", name="Version 1: Opened").click()
    await page.says("It is the first event.")
    await page.page.get_by_role("link", name="Trace it").click()
    stations = page.page.locator(".stations li")
    await expect(stations).to_have_count(9)
    await page.says("balance: readers see it", "statement: readers see it", where="main")
    moment, took = re.compile(r"\d\d:\d\d:\d\d\.\d"), re.compile(r"\d (ms|s|min)")
    for name in (
        "Received",
        "Decided",
        "Forwarded",
        "Delivered in balance",
        "Written in statement",
    ):
        await expect(stations.filter(has_text=name)).to_contain_text(moment)
    await expect(stations.filter(has_text="Visible in balance")).to_contain_text(took)
    await expect(page.page.get_by_role("row", name="All of it")).to_contain_text(took)
    assert await page.violations() == []
    page.refusals = True
    await page.page.get_by_label("Correlation id").fill("nobody's")
    await page.press("Trace")
    await page.says("Trace not found")
