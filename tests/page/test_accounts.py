"""Accounts: found, ordered, paged; and one with its balance, statement, events and chart."""

import re

import pytest
from playwright.async_api import expect

from tests.harness import eventually
from tests.page.bank import Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "<img src=/ui/x onerror=alert(1)> & <b>Bob</b>"
ROWS = "main tbody tr"


async def test_they_are_found_by_owner_and_by_id(page: Tab, bank: Bank) -> None:
    found = await bank.account("Grace Hopper", 7)
    await page.show("accounts")
    for words in ("grace", "Hopper", found):
        await page.page.get_by_label("Search by owner or account id").fill(words)
        await expect(page.page.locator(ROWS)).to_have_count(1)
        await page.says("Grace Hopper", "1,007", where=ROWS)
    await expect(page.page).to_have_url(re.compile(f"search={found}$"))  # it can be linked
    await page.page.reload()
    await expect(page.page.locator(ROWS)).to_have_count(1)
    await page.page.get_by_label("Search by owner or account id").fill("nobody at all")
    await page.says("No account matches “nobody at all”.")


async def test_they_come_in_pages_and_in_an_order(page: Tab, bank: Bank) -> None:
    await bank.crowd()
    await page.show("accounts")
    rows = page.page.locator(ROWS)
    await expect(rows).to_have_count(25)
    first = await rows.first.get_attribute("data-key")
    await page.press("Next")
    await page.says("Page 2")
    await expect(rows.first).not_to_have_attribute("data-key", str(first))
    await page.press("Back")
    await expect(rows.first).to_have_attribute("data-key", str(first))
    rich = await bank.account("Rich", 2**52)
    await eventually(lambda: bank.lists("-balance", rich))
    await page.page.get_by_label("Order").select_option("-balance")
    await expect(rows.first).to_contain_text(f"{2**52 + 1000:,}")


async def test_a_name_with_html_in_it_is_text(page: Tab, bank: Bank) -> None:
    account_id = await bank.account(EVIL)
    await page.show(f"accounts/{account_id}")
    await expect(page.page.get_by_role("heading", name=EVIL)).to_be_visible()
    await page.show("accounts?search=img")
    await page.says(EVIL, where=ROWS)
    assert await page.page.locator("main img, main b").count() == 0


async def test_an_account_has_balance_statement_events_and_chart(page: Tab, bank: Bank) -> None:
    other = await bank.account("Ana")
    account_id = await bank.account("Paulo", *range(1, 18))
    moved = {"from": account_id, "to": other, "money": 53}
    await bank.command("/transfer", **moved)
    await page.show(f"accounts/{account_id}")
    await page.says("Paulo", "1,100", "open", where=".account")
    statement = page.page.locator("[aria-labelledby=entries]")
    await expect(statement).to_contain_text("Paid out, by transfer")
    await expect(statement).to_contain_text("−53")
    await expect(statement.locator("tbody tr")).to_have_count(15)
    await statement.get_by_role("button", name="Next").click()
    await expect(statement.locator("tbody tr")).to_have_count(4)
    await statement.get_by_label("Kind").select_option("AccountCreated")
    await expect(statement.locator("tbody tr")).to_have_count(1)
    await expect(statement).to_contain_text("+1,000")
    events = page.page.locator("[aria-labelledby=stored]")
    await expect(events).to_contain_text('{"owner":"Paulo","money":1000}')
    chart = page.page.get_by_role("img", name=re.compile("^The balance from 1,000 .* to 1,100 "))
    await expect(chart.locator("canvas")).to_be_visible()

    await bank.command("/deposit", id=account_id, money=1)
    await page.says("1,101", where=".account")


async def test_an_account_that_is_not_there(page: Tab) -> None:
    page.refusals = True
    await page.show("accounts/01JD0000000000000000000000")
    await page.says("Account not found", "The projection has no account")
