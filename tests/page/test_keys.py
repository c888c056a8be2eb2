"""Where keys are on: the page asks for one, offers what its role may do, and can forget it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from pipeline.embedded.up import balances_url
from pipeline.operations.keys import Role as Who
from tests.harness import Role, eventually
from tests.keys import holder, on
from tests.page.bank import Bank, is_ready
from tests.page.browser import Tab, tab
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(bank: Bank) -> AsyncIterator[str]:
    """A second service on the same bank, which asks for keys; its address."""
    settings = on(bank.settings, balances_port=free_port())
    async with Role(settings, "bank", "balances"):
        address = balances_url(settings)
        await eventually(lambda: is_ready(address), seconds=60)
        yield address


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, guarded: str) -> AsyncIterator[Tab]:
    async with tab(browser, guarded, refusals=True) as opened:
        yield opened


async def enter(page: Tab, token: str) -> None:
    await page.page.get_by_label("API key").fill(token)
    await page.press("Use this key")


async def token_of(page: Tab, bank: Bank, role: Who, *accounts: str) -> str:
    """The token of a new key, which the service knows by now."""
    headers = await holder(bank.settings, role, accounts=frozenset(accounts))

    async def known() -> bool:
        async with bank.http.get(f"{page.address}/whoami", headers=headers) as answer:
            return answer.status == 200

    await eventually(known)
    return headers["Authorization"].removeprefix("Bearer ")


async def enters(page: Tab, bank: Bank, role: Who, *accounts: str) -> str:
    token = await token_of(page, bank, role, *accounts)
    await page.show()
    await enter(page, token)
    await expect(page.page.locator("#who strong")).to_have_text(role.value)
    return token


async def test_it_asks_says_why_not_and_forgets(page: Tab, bank: Bank) -> None:
    await page.show()
    await page.says("This bank asks for a key", where="dialog[open]")
    await enter(page, f"bank_{'0' * 16}_{'A' * 43}")
    await page.says("key", where="dialog[open] #key-why")
    await page.says("Nothing is shown without a key", where="main")
    token = await token_of(page, bank, Who.VIEWER)
    await enter(page, token)
    await page.says("Live", where="#live")
    await page.says("viewer", where="#who")
    assert not any(token in url for url in page.asked)
    assert await page.page.evaluate("localStorage.length + document.cookie.length") == 0
    await page.press("Forget key")
    await page.says("This bank asks for a key", where="dialog[open]")
    assert await page.page.evaluate("sessionStorage.length") == 0


async def test_a_viewer_sees_all_and_is_offered_nothing_to_do(page: Tab, bank: Bank) -> None:
    async with bank.poisoned() as (sick, _):
        await enters(page, bank, Who.VIEWER)
        for view in ("rebuild", "parked"):
            await page.show(view)
            await page.says("This takes an operator's key. Yours is a viewer's.")
        await page.says(sick)
        await page.show("command/create")
        await page.says("This takes a teller's key. Yours is a viewer's.")
        for name in ("Retry", "Drop…", "Start…", "Open an account"):
            await expect(page.page.get_by_role("button", name=name)).to_have_count(0)


async def test_an_operator_is_offered_it(page: Tab, bank: Bank) -> None:
    await enters(page, bank, Who.OPERATOR)
    await page.show("rebuild")
    await expect(page.page.get_by_role("button", name="Start…")).to_be_visible()


async def test_a_teller_sees_the_accounts_alone(page: Tab, bank: Bank) -> None:
    account_id = await bank.account("Grace")
    await enters(page, bank, Who.TELLER)
    views = page.page.locator("#views a:visible")
    await expect(views).to_have_text(["Events", "Trace", "Accounts"])
    await page.show("command/create")
    await page.page.get_by_label("Owner").fill("Ada")
    await page.press("Open an account")
    await page.says("Opened, version 1", "readers see it")
    await page.show(f"accounts/{account_id}")
    await page.says("Grace", "1,000", where=".account")
    await page.show("partitions")
    await page.says("This takes a viewer's or an operator's key. Yours is a teller's.")


async def test_a_customer_sees_their_own(page: Tab, bank: Bank) -> None:
    account_id = await bank.account("Grace")
    await enters(page, bank, Who.CUSTOMER, account_id)
    await page.says("Your key reaches these accounts.")
    await page.page.get_by_role("link", name=account_id).click()
    await page.says("Grace", "1,000", where=".account")
    await page.says("Do something: Withdraw · Transfer")
    await page.page.get_by_role("link", name="Withdraw").click()
    await page.page.get_by_label("Money").fill("1")
    await page.press("Withdraw")
    await page.says("999", where=".account")
