"""Whoever reads it, and however: by axe-core, by keyboard, at every size, light and dark."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.harness import LONG_LANE, rounds
from tests.page.bank import Bank
from tests.page.browser import DESKTOP, PHONE, Scheme, Tab, tab
from tests.page.canned import Canned, canned
from tests.page.places import PLACES, come_to

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = ("overview", "partitions", "events", "trace", "timeline", "rebuild", "parked", "accounts")
SMALL = (320, 640)
WIDTHS = (320, 360, 640, 768, 1440, 1920)
"""Of windows, in pixels of CSS; 640 is one of 1280 that is zoomed to 200 %."""


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Canned]:
    async with canned() as started:
        yield started


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=LONG_LANE), "dark"])
@pytest.mark.parametrize("width", [320, *(pytest.param(n, marks=LONG_LANE) for n in WIDTHS[1:])])
async def test_no_place_has_a_fault(
    browser: Browser, service: Canned, width: int, scheme: Scheme
) -> None:
    async with tab(browser, service.address, (width, 800), scheme, refusals=True) as page:
        for name, place in [*PLACES.items()][:: rounds(2, 1)]:
            await come_to(page, service, place)
            assert await page.violations() == [], name
            assert await page.misplaced() == [], name
            assert await overflows(page) == [], name
            await page.page.set_viewport_size({"width": width, "height": 800})


DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


async def overflows(page: Tab) -> list[tuple[int, str]]:
    """At which widths it is wider than the window, also with letters of twice the size."""
    found = []
    for letters, widths in (("100%", WIDTHS[:: rounds(2, 1)]), ("200%", (768, 1440))):
        await page.page.evaluate(f"document.documentElement.style.fontSize = '{letters}'")
        for width in widths:
            await page.page.set_viewport_size({"width": width, "height": 800})
            await page.page.evaluate(DRAWN)  # a chart follows its frame one frame later
            if await page.overflow() > 0:
                found.append((width, letters))
    return found


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(DESKTOP, "light", marks=LONG_LANE),
        pytest.param(DESKTOP, "dark", marks=LONG_LANE),
        pytest.param(PHONE, "light", marks=LONG_LANE),
        pytest.param(PHONE, "dark", marks=LONG_LANE),
    ],
)
async def test_no_view_of_a_bank_has_a_fault(
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


TABBED = """() => {
  const it = document.activeElement;
  if (!it || it === document.body) return null;
  const { outlineStyle, outlineWidth } = getComputedStyle(it);
  const [{ left, top, width, height }] = it.getClientRects();
  const [x, y] = [left + width / 2, top + Math.min(height / 2, 12)];
  const on = document.elementFromPoint(Math.min(Math.max(x, 0), innerWidth - 1), y);
  return {
    name: it.outerHTML.slice(0, 100),
    place: [...document.querySelectorAll("*")].indexOf(it),
    ringed: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    seen: on !== null && (it.contains(on) || on.contains(it)),
    last: it.closest("footer, .notices") !== null,
  };
}"""


@pytest.mark.parametrize("size", [SMALL, pytest.param(DESKTOP, marks=LONG_LANE)])
async def test_tab_goes_through_all_in_order_and_is_seen_everywhere(
    browser: Browser, service: Canned, size: tuple[int, int]
) -> None:
    async with tab(browser, service.address, size, refusals=True) as page:
        for name in ("overview with troubles and notices", "parked", "an account", "events"):
            await come_to(page, service, PLACES[name])
            await page.page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
            before: dict[str, Any] = {"place": -1, "last": False}
            for _ in range(200):
                await page.page.keyboard.press("Tab")
                found = await page.page.evaluate(TABBED)
                again = found is None or found["place"] < before["place"]
                if again and before["last"]:
                    break
                assert not again, (name, before, found)
                assert found["ringed"], (name, found)
                assert found["seen"], (name, found)
                before = found
            else:
                pytest.fail(f"{name}: Tab comes to no end")


async def test_where_the_system_sets_the_colours_nothing_that_tells_is_lost(
    browser: Browser, service: Canned
) -> None:
    async with tab(browser, service.address, refusals=True) as page:
        await page.page.emulate_media(forced_colors="active")
        for name, what, part, look in (
            ("overview", ".stage[data-moving]", "::after", "backgroundImage"),
            ("overview", "#live .pulse", "::before", "backgroundColor"),
            ("a trace", ".stations .line span", "", "backgroundColor"),
            ("rebuild that runs", "progress", "", "borderTopStyle"),
            ("an account at a version", ".state .changed", "", "borderTopStyle"),
        ):
            await come_to(page, service, PLACES[name])
            style, ground = await page.page.locator(what).first.evaluate(
                f"(it) => [getComputedStyle(it, '{part}'), getComputedStyle(document.body)]"
                f".map(({{ {look} }}) => {look})"
            )
            assert style not in (ground, "none", "rgba(0, 0, 0, 0)"), (name, what, style)


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
