"""Commands from the page: an empty bank offers the first, and each is followed to its readers."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, expect

from tests.page.bank import Bank
from tests.page.browser import Tab, tab
from tests.page.canned import Canned, canned, problem, reading

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADA = f"01JD{1:022}"


@pytest_asyncio.fixture(loop_scope="session")
async def empty() -> AsyncIterator[Canned]:
    """A bank in which nothing has happened."""
    async with canned() as service:
        service.reading = lambda: reading(stored={"events": 0, "rate": 0.0, "unknown": None})
        yield service


async def test_an_empty_bank_offers_the_first_account(browser: Browser, empty: Canned) -> None:
    sent = list[tuple[str | None, Any]]()

    async def create(request: web.Request) -> web.StreamResponse | dict[str, Any]:
        sent.append((request.headers.get("Idempotency-Key"), await request.json()))
        if len(sent) == 1:  # executed, but the answer is lost
            return problem(503, "accounts-unavailable", "No answer")
        return {"id": ADA, "version": 1}

    empty.answers["/commands/create"] = create
    async with tab(browser, empty.address, refusals=True) as page:
        await page.show("accounts")
        await page.says("There is no account yet.")
        await expect(page.page.get_by_role("button", name="Open an account")).to_be_visible()
        await page.show()
        await page.says("This bank is empty")
        owner, money = page.page.get_by_label("Owner"), page.page.get_by_label("Money in it")
        await money.fill("1.5")
        await page.press("Open an account")
        await expect(owner).to_be_focused()
        await expect(owner).to_have_accessible_description("This is needed.")
        await expect(money).to_have_accessible_description(re.compile("in digits alone"))
        assert await page.violations() == []
        assert not sent

        await owner.fill("Ada")
        await money.fill("100")
        await money.press("Enter")
        await page.says("No answer", where=".command")
        await expect(money).to_have_value("100")
        await page.press("Open an account")
        await expect(page.page).to_have_url(re.compile(f"#/accounts/{ADA}$"))
        await page.says("The account is open.", where="#notices")
    first, second = sent
    assert first == second, "one key for both"
    assert first[0]
    assert first[1] == {"owner": "Ada", "money": 100}


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, bank: Bank) -> AsyncIterator[Tab]:
    async with tab(browser, bank.address, refusals=True) as opened:
        yield opened


async def test_a_newcomer_opens_an_account_pays_in_and_follows_it(page: Tab, bank: Bank) -> None:
    await page.show()
    await page.page.get_by_role("link", name="Send a command of your own").click()
    await page.page.get_by_label("Owner").fill("Grace")
    await page.page.get_by_label("Money in it").fill("1000")
    await page.press("Open an account")
    await expect(page.page.locator("h1")).to_have_text("Trace of a command")
    await page.says("Opened, version 1", "readers see it", "put it into the log")
    steps = page.page.locator(".stations .why:not(.dim)")
    await expect(steps.first).to_contain_text("got a correlation id")
    await page.page.get_by_role("button", name="What does lease mean?").first.click()
    await page.says("A worker's claim to a partition", where="dialog[open]")
    await page.page.keyboard.press("Escape")
    assert await page.violations() == []

    await page.page.get_by_role("link", name=re.compile("^01")).first.click()
    await page.page.get_by_role("link", name="Pay in").click()
    account = page.page.get_by_label("Account", exact=True)
    await expect(account).to_have_value(re.compile("^01"))
    await page.page.get_by_label("Money").fill("25")
    await page.press("Pay in")
    await page.says("Paid in, version 2", "readers see it")
    await expect(page.page.locator(".why")).to_have_count(0)  # it was explained once
    await page.page.get_by_role("link", name="Explain each stage").click()
    await page.says("The worker folded the event into the document")

    await page.page.get_by_role("link", name=re.compile("^01")).first.click()
    await page.says("1,025", where=".account")
    await page.page.get_by_role("link", name="Withdraw").click()
    await page.page.get_by_label("Money").fill("1026")
    await page.press("Withdraw")
    money = page.page.get_by_label("Money")
    await expect(money).to_be_focused()
    await expect(money).to_have_accessible_description(re.compile("1025|1,025|available"))
