"""One bank and one browser for all tests of the page; each test has a tab of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import placed
from tests.page.bank import PARTITIONS, Bank, opened
from tests.page.browser import Tab, chromium, tab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bank(browser: Browser) -> AsyncIterator[Bank]:
    """A bank on servers of its own. A test that kills something brings it back."""
    folder = Path(tempfile.mkdtemp(prefix="bank-page-"))
    settings = placed(
        folder,
        partitions=PARTITIONS,
        projections="balance statement",
        rebuild_grace_seconds=1,
    )
    async with opened(settings) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, bank: Bank) -> AsyncIterator[Tab]:
    """The page at the width of a desk, in light colours."""
    async with tab(browser, bank.address) as opened_tab:
        yield opened_tab
