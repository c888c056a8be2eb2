"""Parked accounts: the cause is told, a retry's outcome too, and a drop asks first."""

import pytest
from playwright.async_api import Locator, expect

from tests.harness import eventually
from tests.page.bank import Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")


def entry(page: Tab, account_id: str, projection: str = "balance") -> Locator:
    return page.page.locator(f"section[data-key={projection}] [data-key='{account_id}']")


async def press(page: Tab, what: str, account_id: str, projection: str = "balance") -> None:
    button = entry(page, account_id, projection).get_by_role("button", name=what)
    await button.click()


async def test_the_cause_is_told_and_a_retry_says_how_it_went(page: Tab, bank: Bank) -> None:
    sick, sound = await bank.poison()
    await page.show("parked")
    await expect(entry(page, sick)).to_contain_text("MoneyPrinted")
    await page.says("parked.", where="#troubles")
    await press(page, "Retry", sick)
    await page.says(f"{sick} is parked again.", where="#notices")
    await expect(entry(page, sick)).to_contain_text("2 times")

    bank.mend(sound)
    await press(page, "Retry", sick)
    await page.says(f"{sick} is applied.", where="#notices")
    await expect(entry(page, sick)).not_to_be_attached()
    await eventually(lambda: bank.shows(sick, 5))
    await press(page, "Retry", sick, "statement")
    await expect(entry(page, sick, "statement")).not_to_be_attached()


async def test_a_drop_asks_first(page: Tab, bank: Bank) -> None:
    sick, _ = await bank.poison()
    await page.show("parked")
    await press(page, "Drop…", sick)
    await page.says(sick, "nothing is mended", where="dialog[open]")
    await page.page.keyboard.press("Escape")
    await expect(page.page.locator("dialog[open]")).not_to_be_attached()
    await expect(entry(page, sick)).to_be_visible()
    for projection in ("balance", "statement"):
        await press(page, "Drop…", sick, projection)
        await page.press("Drop it")
        await expect(entry(page, sick, projection)).not_to_be_attached()
    await page.says(f"{sick} is off the list.", where="#notices")


async def test_the_account_says_that_it_is_parked(page: Tab, bank: Bank) -> None:
    sick, sound = await bank.poison()
    await page.show(f"accounts/{sick}")
    await page.says("This account is parked.", "as of version 2; 3 events of it wait.")
    await page.says("MoneyPrinted", where="#view [data-key=parked]")
    past = page.page.locator("[aria-labelledby=past]")
    await past.get_by_role("button", name="Show version 3").click()
    await expect(past.get_by_label("After the event")).to_contain_text("can't be folded")
    bank.mend(sound)
    await page.page.get_by_role("link", name="Retry or drop it").click()
    for projection in ("balance", "statement"):
        await press(page, "Retry", sick, projection)
        await expect(entry(page, sick, projection)).not_to_be_attached()
