"""A client in JavaScript follows the feed by its AsyncAPI document, through kills of both sides."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from pipeline.coordination.partitioning import ensure_log
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import SLOTS
from pipeline.support.settings import Settings
from tests.growth import fill
from tests.harness import Role, eventually, rounds
from tests.load import Load
from tests.page.browser import chromium

SCRIPT = (Path(__file__).parent / "feed_client.js").read_text()
EVENTS = rounds(400, 20_000)


class Consumer:
    """Its database, which outlives its tabs: what it has got, and where it goes on."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.got: list[dict[str, Any]] = []
        self.position = "beginning"
        self._browser, self._address = browser, address
        self._page: Page | None = None

    def save(self, events: list[dict[str, Any]], position: str) -> None:
        self.got += events
        self.position = position

    async def start(self) -> None:
        self._page = await self._browser.new_page()
        await self._page.expose_function("save", self.save)
        await self._page.goto(f"{self._address}/ui")
        await self._page.evaluate(SCRIPT, self.position)

    async def kill(self) -> None:
        assert self._page is not None
        await self._page.close(run_before_unload=False)

    @property
    def ids(self) -> set[str]:
        return {each["id"] for each in self.got}

    async def goes_on(self, events: int) -> None:
        """Wait until it has got so many more."""
        wanted = len(self.ids) + events
        await eventually(lambda: len(self.ids) >= wanted, message=f"{events} more events")

    def in_order(self) -> bool:
        """Whether each account's versions came in order, when repeats are dropped."""
        reached: dict[str, int] = {}
        for event in self.got:
            account, version = event["subject"], event["version"]
            if version > reached.get(account, 0) + 1:
                return False
            reached[account] = max(version, reached.get(account, 0))
        return True


async def answers(address: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{address}/livez") as answer:
        return answer.status == 200


async def all_ids(store: EventStore) -> set[str]:
    return {e["_id"] async for events in store.replay(range(SLOTS)) for e in events}


@pytest.mark.timeout(rounds(600, 1800))
async def test_it_has_each_event_once_when_repeats_are_dropped(
    settings: Settings,
    store: EventStore,
    js: JetStream,
    role: Callable[..., Awaitable[Role]],
) -> None:
    await asyncio.to_thread(fill, settings.mongodb_url, settings.mongodb_database, EVENTS // 2)
    address, load = f"http://127.0.0.1:{settings.balances_port}", Load(store)
    await ensure_log(js, settings)
    await role("bank", "forwarder")
    service = await role("bank", "balances")
    await eventually(lambda: answers(address), message="the service answers")
    async with chromium() as browser, load.steady(rounds(40, 200)):
        consumer = Consumer(browser, address)
        await consumer.start()
        await consumer.goes_on(EVENTS // 4)
        for _ in range(rounds(2, 8)):
            await service.kill()
            await asyncio.sleep(0.5)  # what is written meanwhile has to come later
            await service.start()
            await eventually(lambda: answers(address), message="the service answers again")
            await consumer.goes_on(EVENTS // 40)
            await consumer.kill()
            await consumer.start()
            await consumer.goes_on(EVENTS // 40)
        await eventually(lambda: load.acknowledged >= EVENTS // 2, seconds=600)
        stored = await all_ids(store)
        await eventually(lambda: consumer.ids >= stored, message="all events")
    assert consumer.in_order()
    assert consumer.ids <= await all_ids(store)
    assert len(consumer.ids) >= EVENTS
