"""Whoever reads it, and however: by axe-core, by keyboard, at every width, light and dark."""

import pytest
from playwright.async_api import Browser, expect

from tests.harness import LONG_LANE
from tests.page.bank import Bank
from tests.page.browser import DESKTOP, PHONE, Scheme, Tab, tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = ("overview", "partitions", "events", "trace", "timeline", "rebuild", "parked", "accounts")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (DESKTOP, "light"),
        pytest.param(DESKTOP, "dark", marks=LONG_LANE),
        pytest.param(PHONE, "light", marks=LONG_LANE),
        pytest.param(PHONE, "dark", marks=LONG_LANE),
    ],
)
async def test_no_view_has_a_fault(
    browser: Browser, bank: Bank, size: tuple[int, int], scheme: Scheme
) -> None:
    account_id = await bank.account("Ada", 5, 6)
    async with (
        bank.poisoned() as (sick, _),
        tab(browser, bank.address, size, scheme) as page,
    ):
        for view in (*VIEWS, f"accounts/{account_id}", f"accounts/{sick}", "command/hold"):
            await page.show(view)
            await expect(page.page.get_by_text("Reading…")).to_have_count(0)
            await page.says("Live", where="#live")
            assert await page.violations() == [], view
            assert await page.overflow() <= 0, view
        await page.show("rebuild")
        await page.press("Start…")
        assert await page.violations() == [], "the dialog"


async def test_by_keyboard(page: Tab, bank: Bank) -> None:
    await page.show("rebuild")
    await page.says("Live", where="#live")
    await page.page.keyboard.press("Tab")
    skip = page.page.get_by_role("link", name="Skip to the content")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.page.keyboard.press("Enter")
    await expect(page.page.locator("h1")).to_be_focused()

    start = page.page.get_by_role("button", name="Start…")
    await start.focus()
    await page.page.keyboard.press("Enter")
    await expect(page.page.get_by_role("button", name="Not now")).to_be_focused()
    await page.page.keyboard.press("Escape")
    await expect(start).to_be_focused()

    await page.page.get_by_role("link", name="Partitions").focus()
    await page.page.keyboard.press("Enter")
    await expect(page.page.locator("h1")).to_have_text("Partitions")
    await expect(page.page.locator("h1")).to_be_focused()
    await expect(page.page).to_have_title("Partitions · Bank")


async def test_a_new_reading_takes_no_focus_away(page: Tab, bank: Bank) -> None:
    await page.show("partitions")
    table = page.page.get_by_role("region", name="Partitions of ").first
    await table.focus()
    await page.says("Live", where="#live")
    for _ in range(2):
        shown = await page.page.locator("#live time").inner_text()
        await expect(page.page.locator("#live time")).not_to_have_text(shown)
    await expect(table).to_be_focused()


async def test_who_wants_no_motion_gets_none(browser: Browser, bank: Bank) -> None:
    async with tab(browser, bank.address) as page:
        await page.page.emulate_media(reduced_motion="reduce")
        await page.show()
        await expect(page.page.locator(".stage").first).to_be_visible()
        running = "document.getAnimations().filter((each) => each.playState === 'running').length"
        assert await page.page.evaluate(running) == 0


async def test_nothing_stands_inline(page: Tab, bank: Bank) -> None:
    """What the policy of the page forbids is not there either."""
    await page.show()
    found = await page.page.evaluate(
        "document.querySelectorAll('script:not([src]), style, [onclick], [onload]').length"
    )
    assert found == 0
