"""What happened, who did it and what is set; and an alarm that a tab in the back shows."""

import re
import signal

import pytest
from playwright.async_api import expect

from tests.page.bank import Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_outage_is_seen_afterwards_and_raises_an_alarm(page: Tab, bank: Bank) -> None:
    await page.show("timeline")
    await expect(page.page).to_have_title(re.compile("^Timeline"))
    redis = bank.embedded.servers["redis"]
    await redis.kill(signal.SIGSTOP)
    await expect(page.page).to_have_title(re.compile(r"^\(‼\) Timeline"))
    await expect(page.page.locator("link[rel=icon]")).to_have_attribute(
        "href", re.compile("icon-bad.svg$")
    )
    await redis.kill(signal.SIGCONT)
    entries = page.page.locator(".timeline li")
    silent = entries.filter(has_text="Redis does not answer.")
    await expect(silent.first).to_contain_text("trouble")
    await expect(entries.filter(has_text="Redis answers again.").first).to_contain_text("After ")
    await expect(page.page).to_have_title(re.compile("^Timeline"))
    await page.page.get_by_label("Show").select_option("trouble")
    await expect(entries.filter(has_text="answers again")).to_have_count(0)
    await expect(silent.first).to_be_visible()
    await page.page.get_by_text("All of them").click()
    await expect(page.page.get_by_role("row", name="BANK_LEASE_SECONDS")).to_contain_text("2.0")
    assert await page.violations() == []
