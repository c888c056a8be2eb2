"""Parked accounts: the cause is told, a retry's outcome too, and a drop asks first."""

from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Locator, expect

from tests.harness import eventually
from tests.page.bank import Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")


def entry(page: Tab, account_id: str) -> Locator:
    return page.page.locator(f"#view [data-key='{account_id}']")


async def press(page: Tab, what: str, account_id: str) -> None:
    await entry(page, account_id).get_by_role("button", name=what).click()


async def test_the_cause_is_told_and_a_retry_says_how_it_went(page: Tab, bank: Bank) -> None:
    page.refusals = True  # it may ask for what has just been applied
    async with bank.poisoned() as (sick, sound):
        await page.show("parked")
        card = entry(page, sick)
        for text in ("MoneyPrinted", "3 events", "partition ", "balance", "statement"):
            await expect(card).to_contain_text(text)
        await page.says("parked.", where="#troubles")
        await card.get_by_text("The event as it is stored").click()
        await expect(card.locator("pre")).to_contain_text(f'"_id": "{sound["_id"]}"')
        assert await page.violations() == []
        await press(page, "Retry", sick)
        await page.says(f"{sick} is parked again.", where="#notices")
        await expect(card).to_contain_text("2 times")

        bank.mend(sound)
        await press(page, "Retry", sick)
        await page.says(f"{sick} is applied.", "in each projection", where="#notices")
        await expect(card).not_to_be_attached()
        await eventually(lambda: bank.shows(sick, 5))


async def test_all_are_retried_together(page: Tab, bank: Bank) -> None:
    page.refusals = True
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(bank.poisoned()) for _ in range(3)]
        await page.show("parked")
        for sick, sound in several:
            await expect(entry(page, sick)).to_contain_text("statement")
            bank.mend(sound)
        await page.press("Retry all 3")
        await page.says("3 accounts are applied.", where="#notices")
        await page.says("No account is parked.", where="#view")


async def test_a_drop_asks_first(page: Tab, bank: Bank) -> None:
    page.refusals = True
    async with bank.poisoned() as (sick, _):
        await page.show("parked")
        await expect(entry(page, sick)).to_contain_text("statement")
        await press(page, "Drop…", sick)
        await page.says(sick, "nothing is repaired", "balance and statement", where="dialog[open]")
        await page.page.keyboard.press("Escape")
        await expect(page.page.locator("dialog[open]")).not_to_be_attached()
        await expect(entry(page, sick)).to_be_visible()
        await press(page, "Drop…", sick)
        await page.press("Drop it")
        await expect(entry(page, sick)).not_to_be_attached()
        await page.says(f"{sick} is off the list.", where="#notices")


async def test_the_account_says_that_it_is_parked(page: Tab, bank: Bank) -> None:
    page.refusals = True
    async with bank.poisoned() as (sick, sound):
        await page.show(f"accounts/{sick}")
        await page.says("This account is parked.", "as of version 2; 3 events of it wait.")
        await page.says("MoneyPrinted", where="#view [data-key=parked]")
        past = page.page.locator("[aria-labelledby=past]")
        await expect(past.get_by_text("Version 2 of 5")).to_be_visible()
        await expect(past.get_by_role("row", name="can't be folded").first).to_contain_text("3")
        await past.get_by_role("button", name="Show version 3").click()
        await expect(past.get_by_label("After the event")).to_contain_text("can't be folded")
        bank.mend(sound)
        await page.page.get_by_role("link", name="Retry or drop it").click()
        await expect(entry(page, sick)).to_contain_text("statement")
        await press(page, "Retry", sick)
        await expect(entry(page, sick)).not_to_be_attached()
