"""A headless Chromium of this machine, and a tab in it that keeps what it asked for."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

REQUIRED: Final = "BANK_TEST_BROWSER"
"""`required`: without a browser its tests fail; unset, they are skipped."""

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS: Final = 60_000
_REFUSED: Final = re.compile(r"Failed to load resource: ")
"""What Chromium itself says of an answer that is a problem; the page tells it, too."""

_RULES: Final = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
_MISPLACED: Final = """() => {
  const root = document.querySelector("dialog[open]") ?? document.querySelector("main");
  const BOXES = ".card, .stage, .box, .fact, .badge, li, th, td, button, summary, dialog";
  const scrolls = (each) => {
    const { overflowX, textOverflow } = getComputedStyle(each);
    return /auto|scroll/.test(overflowX) || textOverflow === "ellipsis";
  };
  const shown = (each) => each.getClientRects().length && !each.closest(".heard, .u-wrap");
  const around = (each, box) => (each === box ? [] : [each, ...around(each.parentElement, box)]);
  const found = [];
  const range = document.createRange();
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    const box = parent.closest(BOXES);
    if (!box || !shown(parent) || around(parent, box).some(scrolls)) continue;
    const { left, right } = box.getBoundingClientRect();
    range.selectNodeContents(texts.currentNode);
    for (const line of range.getClientRects())
      if (line.width && (line.right > right + 1.5 || line.left < left - 1.5))
        found.push(`out of its ${box.className || box.tagName}: ${texts.currentNode.data}`);
  }
  for (const plot of root.querySelectorAll(".plot:has(canvas)")) {
    const { right } = plot.querySelector("canvas").getBoundingClientRect();
    if (right > plot.getBoundingClientRect().right) found.push("a chart out of its frame");
  }
  const CONTROLS = "a[href], button, input, select, summary";
  const controls = [...root.querySelectorAll(CONTROLS)].filter(shown);
  // Line by line: a link that is continued on the next line leaves room for another one there.
  const places = controls.map((each) => [...each.getClientRects()]);
  const meet = (one, other) =>
    Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
    Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1;
  places.forEach((one, n) => {
    for (let m = n + 1; m < places.length; m += 1)
      if (!controls[n].contains(controls[m]) && one.some((a) => places[m].some((b) => meet(a, b))))
        found.push([n, m].map((k) => controls[k].outerHTML.slice(0, 99)).join(" on "));
  });
  return found;
}"""

Scheme = Literal["light", "dark"]
DESKTOP: Final = (1440, 900)
PHONE: Final = (360, 740)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; skips or, where one is required, fails without it."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        why = "there is no Chromium (Debian: apt-get install chromium)"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(why)
        pytest.skip(why)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        await browser.close()


@dataclass(eq=False)
class Tab:
    """The operator's page in a tab. `asked` are the URLs of all its requests, `errors` what went to
    the console; of refused requests only where `refusals` is not set."""

    page: Page
    address: str
    refusals: bool = False
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def show(self, view: str = "overview") -> None:
        """Open the view by its address, as a link would."""
        await self.page.goto(f"{self.address}/ui#/{view}")
        await expect(self.page.locator("h1")).to_be_visible()

    async def says(self, *texts: str, where: str = "body") -> None:
        """Wait until all of these are there to be read."""
        for text in texts:
            await expect(self.page.locator(where)).to_contain_text(text)

    async def press(self, name: str) -> None:
        """Press the button of that name."""
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def violations(self) -> list[str]:
        """What axe-core finds, of any impact."""
        found = (await Axe().run(self.page, options=_RULES)).response["violations"]
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in found
        ]

    async def misplaced(self) -> list[str]:
        """Words and charts that leave their box, and controls that lie on others."""
        found: list[str] = await self.page.evaluate(_MISPLACED)
        return found

    async def overflow(self) -> int:
        """By how many pixels it is wider than the window."""
        width: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width

    def was_sound(self) -> None:
        """Asked nobody but the service, and had nothing to complain of."""
        assert {urlsplit(url).netloc for url in self.asked} <= {urlsplit(self.address).netloc}
        assert not self.errors, self.errors

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (
            self.refusals and _REFUSED.match(message.text)
        ):
            self.errors.append(message.text)


@asynccontextmanager
async def tab(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    *,
    refusals: bool = False,
) -> AsyncIterator[Tab]:
    """A new tab of a new reader; afterwards it must have been sound."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, service_workers="block"
    )
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    opened = Tab(await context.new_page(), address, refusals)
    opened.listen()
    yield opened
    opened.was_sound()
    await context.close()
