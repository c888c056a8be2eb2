"""Accounts: found, ordered, paged; and one with its balance, statement, events and chart."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.harness import LONG_LANE, eventually
from tests.page.bank import Bank
from tests.page.browser import Tab, tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "<img src=/ui/x onerror=alert(1)> & <b>Bob</b>"
ROWS = "main tbody tr"


async def test_they_are_found_by_owner_and_by_id(page: Tab, bank: Bank) -> None:
    found = await bank.account("Grace Hopper", 7)
    await page.show("accounts")
    for words in ("grace", "Hopper", found[-9:].lower(), found):
        await page.page.get_by_label("Search by owner or account id").fill(words)
        await expect(page.page.locator(ROWS)).to_have_count(1)
        await page.says("Grace Hopper", "1,007", where=ROWS)
    await expect(page.page).to_have_url(re.compile(f"search={found}$"))  # it can be linked
    await page.page.reload()
    await expect(page.page.locator(ROWS)).to_have_count(1)
    await page.page.get_by_label("Search by owner or account id").fill("nobody at all")
    await page.says("No account matches “nobody at all”.")


async def test_marks_and_case_of_a_name_do_not_matter(page: Tab, bank: Bank) -> None:
    await bank.account("Élise Weiß")
    await page.show("accounts")
    for words in ("elise", "WEISS", "weiß él"):
        await page.page.get_by_label("Search by owner or account id").fill(words)
        await expect(page.page.locator(ROWS)).to_have_count(1)
        await page.says("Élise Weiß", where=ROWS)


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
    chart = page.page.get_by_role("img", name=re.compile("^The balance from 1,000 .* to 1,100 now"))
    await expect(chart.locator("canvas")).to_be_visible()

    await bank.command("/deposit", id=account_id, money=1)
    await page.says("1,101", where=".account")


async def test_an_account_in_time(page: Tab, bank: Bank) -> None:
    account_id = await bank.account("Paulo", *range(1, 30))
    await page.show(f"accounts/{account_id}")
    past = page.page.locator("[aria-labelledby=past]")
    rows, fold = past.locator("tbody tr"), past.locator(".fold")
    await expect(past).to_contain_text("Version 30 of 30")
    await expect(rows).to_have_count(15)
    await expect(rows.first).to_contain_text("1,435")
    await expect(fold).to_have_text("balance 1,406 + 29 = 1,435")
    parts = ("history?limit", "history?version=1", "statement?limit=1000", "statement?limit=15")
    for part in parts:  # each is asked for once
        assert len([url for url in page.asked if f"{account_id}/{part}" in url]) == 1, part

    await past.get_by_role("slider").fill("1")
    await expect(fold).to_have_text("balance 0 + 1,000 = 1,000; owner Paulo; status open")
    await expect(past).to_contain_text("There was no account.")
    await past.get_by_role("button", name="After", exact=True).click()
    await expect(fold).to_have_text("balance 1,000 + 1 = 1,001")
    await expect(past.get_by_label("Before the event")).to_contain_text("1,000")
    await expect(past.locator(".changed")).to_have_text(
        ["Balance1,001 (changed)", "Available1,001 (changed)", "Version2 (changed)"]
    )
    await past.get_by_text("The event as it is stored").click()
    await expect(past.locator("pre")).to_contain_text('"kind": "MoneyDeposited"')
    await expect(page.page).to_have_url(re.compile("version=2$"))  # it can be linked
    await page.page.reload()
    await expect(fold).to_have_text("balance 1,000 + 1 = 1,001")

    await past.get_by_role("button", name="Now").click()
    await bank.command("/withdraw", id=account_id, money=35)
    await expect(fold).to_have_text("balance 1,435 − 35 = 1,400")
    await past.get_by_role("button", name="Go by time").click()
    await past.get_by_role("slider").fill("0")
    await expect(fold).to_have_text("balance 0 + 1,000 = 1,000; owner Paulo; status open")
    assert not await page.violations()


@pytest.mark.parametrize(
    "width", [320, pytest.param(360, marks=LONG_LANE), pytest.param(1440, marks=LONG_LANE)]
)
async def test_what_is_long_stays_in_its_box(browser: Browser, bank: Bank, width: int) -> None:
    owner = f"{'W' * 150} שלום {'Ж' * 40}"
    account_id = await bank.account(owner, 2**53 - 1001)
    async with tab(browser, bank.address, (width, 740)) as page:
        await page.show(f"accounts/{account_id}")
        await page.says(f"{2**53 - 1:,}", where=".account")
        await page.says("Version 2 of 2", where="main")
        assert await page.overflow() == 0
        for box in ("main .card", "main .sides dd", "main .account h2", "main .balance"):
            assert not await page.page.locator(box).evaluate_all(
                "all => all.filter((each) => each.scrollWidth > each.clientWidth).length"
            ), box


async def test_an_account_that_is_not_there(page: Tab) -> None:
    page.refusals = True
    await page.show("accounts/01JD0000000000000000000000")
    await page.says("Account not found", "The projection has no account")
    assert await page.page.locator("#view .box").count() == 1
