"""A rebuild with a click: it asks first, shows a bar for each partition, and can be called off."""

import re

import pytest
from playwright.async_api import Locator, expect

from tests.harness import LONG_LANE
from tests.page.bank import PARTITIONS, Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUNNING = "section[data-key^=rebuild-]"


async def start(page: Tab) -> None:
    await page.press("Start…")
    await page.says("Rebuild balance?", where="dialog[open]")
    await page.press("Start the rebuild")
    await page.says("The rebuild of balance is under way.", where="#notices")


def last(page: Tab) -> Locator:
    """The row of the one that was started last, once it is over."""
    return page.page.locator("[aria-labelledby=last] tbody tr").first


async def test_it_is_started_and_goes_to_its_end(page: Tab, bank: Bank) -> None:
    await bank.replay_at(0)
    await page.show("rebuild")
    await page.press("Start…")
    await page.press("Not now")
    await expect(page.page.locator("dialog[open]")).not_to_be_attached()
    await start(page)
    await expect(page.page.locator(RUNNING)).not_to_be_attached()
    await expect(last(page)).to_contain_text(re.compile("balance.*next generation.*done"))
    await page.says("The rebuild of balance is done.", where="#notices")


@LONG_LANE
async def test_in_place_is_a_choice(page: Tab, bank: Bank) -> None:
    await bank.replay_at(0)
    await page.show("rebuild")
    await page.page.get_by_role("radio", name=re.compile("^In place")).check()
    await start(page)
    await expect(last(page)).to_contain_text(re.compile("balance.*in place.*done"))


async def test_it_shows_its_bars_and_is_called_off(page: Tab, bank: Bank) -> None:
    await bank.crowd()
    await bank.replay_at(0.5)
    await page.show("rebuild")
    await start(page)
    await expect(page.page.locator(f"{RUNNING} progress")).to_have_count(PARTITIONS + 1)
    await page.says("0 of ", "waiting", where=RUNNING)
    await page.press("Cancel this rebuild")
    await page.press("Let it run")
    await expect(page.page.locator(RUNNING)).to_be_visible()
    await page.press("Cancel this rebuild")
    await page.press("Cancel the rebuild")
    await page.says("The rebuild of balance is cancelled.", where="#notices")
    await expect(page.page.locator(RUNNING)).not_to_be_attached()
    await expect(last(page)).to_contain_text("cancelled")
