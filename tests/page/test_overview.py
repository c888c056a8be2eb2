"""The pipeline at a glance: figures move, and what is lost, down or old is named."""

import asyncio
import re
import signal
import time
from functools import partial

import pytest
from playwright.async_api import Browser, expect

from tests.harness import LONG_LANE, eventually
from tests.page.bank import PARTITIONS, Bank
from tests.page.browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORED = "[data-key=store]"
FIGURE = re.compile(r"[0-9][0-9,.]*")


async def figure(page: Tab, where: str) -> float:
    """The first figure that is there; AssertionError while it is unknown."""
    text = await page.page.locator(where).first.inner_text()
    found = FIGURE.search(text)
    assert found, text
    return float(found[0].replace(",", ""))


@LONG_LANE
async def test_figures_move(page: Tab, bank: Bank) -> None:
    await page.show()
    async with bank.traffic():
        events = f"{STORED} [data-key=Events] dd"
        before = await eventually(partial(figure, page, events))
        for stage in ("commands", "store", "stream", "workers"):
            rate = partial(figure, page, f"[data-key={stage}] .rate")
            await eventually(rate, message=f"{stage} has a rate")

        async def more() -> bool:
            return await figure(page, events) > before + 10

        await eventually(more)
        moving = page.page.locator("[data-key=workers][data-moving]")
        await expect(moving).to_be_visible()
    await page.says("Live", where="#live")
    await page.says("MongoDB", "NATS", "Redis", "Elasticsearch", where=".servers")
    await expect(page.page.locator(".servers .badge")).to_have_text(["up"] * 4)
    await expect(moving).not_to_be_attached()


async def test_the_last_hour_is_a_chart(page: Tab, bank: Bank) -> None:
    await bank.account("Ada", 5, 5)
    await page.show()
    chart = page.page.get_by_role("img", name=re.compile("^Events in .*Paid in [1-9]"))
    await expect(chart.locator("canvas")).to_be_visible(timeout=60_000)
    await page.says("Approximate")
    await page.page.get_by_label("Money, in minor units").check()
    money = re.compile("^Money, .*Paid in [1-9]")
    await expect(page.page.get_by_role("img", name=money)).to_be_visible()
    await page.page.get_by_text("The same as a table").click()
    await expect(page.page.locator("details tbody tr").first).to_be_visible()


async def test_an_account_service_that_stands_still_is_told_from_one_that_ended(
    page: Tab, bank: Bank
) -> None:
    await page.show()
    row = page.page.get_by_role("row").filter(has_text="Account service")
    await expect(row.filter(has_text="ready")).to_be_visible()
    await bank.accounts.kill(signal.SIGSTOP)
    try:
        await page.says("No account service answers.", where="#troubles")
        await page.says("No answer", where="[data-key=commands]")
        await expect(row.filter(has_text="does not answer")).to_be_visible()
    finally:
        await bank.accounts.kill(signal.SIGCONT)
    await expect(page.page.locator("#troubles [data-key=without-accounts]")).not_to_be_attached()
    await bank.accounts.stop()
    try:
        await page.says("No account service runs.", where="#troubles")
        await expect(row.filter(has_text="ended")).to_be_visible()
    finally:
        await bank.accounts.start()
    await expect(row.filter(has_text="ready")).to_be_visible()
    await expect(page.page.locator("#troubles [data-key=without-accounts]")).not_to_be_attached()


async def replaced(bank: Bank, count: int, **environ: str) -> list[str]:
    """Have so many workers that are told so, in the place of those that are there."""
    await asyncio.gather(*(bank.fleet.leave(name) for name in list(bank.fleet.workers)))
    usual = bank.fleet.environ
    bank.fleet.environ = {**usual, **environ}
    await bank.fleet.join(count)
    bank.fleet.environ = usual
    await bank.fleet.has(*[PARTITIONS // count] * count)
    return list(bank.fleet.workers)


@LONG_LANE
async def test_an_only_worker_that_stands_still_is_named_while_it_has_its_leases(
    page: Tab, bank: Bank
) -> None:
    await page.show()
    # So long that the leases are there for as long as a slow machine needs to look.
    [only] = await replaced(bank, 1, BANK_LEASE_SECONDS="60")
    try:
        await bank.fleet.workers[only].kill(signal.SIGSTOP)
        silent = page.page.locator("#troubles > div > ul > [data-key=without-worker]")
        await expect(silent).to_contain_text(f"Worker {only} does not answer.")
        await expect(silent).to_contain_text("until its leases run out")
        await bank.command("/create", owner="Late", money=1)
        await expect(silent).to_contain_text(re.compile("balance (is|and statement are) .* behind"))
        await bank.fleet.workers[only].kill(signal.SIGCONT)
        await expect(silent).not_to_be_attached()
    finally:
        await bank.fleet.workers[only].kill(signal.SIGCONT)
        await replaced(bank, 2)


async def test_a_lost_worker_is_named_with_its_partitions(page: Tab, bank: Bank) -> None:
    await page.show("partitions")
    name = sorted(bank.fleet.workers)[-1]
    survivor = sorted(bank.fleet.workers)[0]
    group = page.page.locator(f"[data-key=w-{name}]")
    await expect(group.locator("tbody tr")).to_have_count(PARTITIONS // 2)
    await bank.fleet.workers[survivor].kill(signal.SIGSTOP)
    try:
        await bank.fleet.kill(name)
        await page.says(f"Worker {name} does not answer.", where="#troubles")
        await expect(group.locator(".badge").first).to_have_text("does not answer")
        await page.says("No partition has a worker.", where="#troubles")
        await expect(page.page.locator("[data-key=nobody] tbody tr")).to_have_count(PARTITIONS)
    finally:
        await bank.fleet.workers[survivor].kill(signal.SIGCONT)
    await page.says("Others have taken over", where=f"[data-key=w-{name}]")
    await bank.fleet.join()
    await bank.fleet.has(PARTITIONS // 2, PARTITIONS // 2)
    newcomer = sorted(bank.fleet.workers)[-1]
    await expect(page.page.locator(f"[data-key=w-{newcomer}] tbody tr")).to_have_count(
        PARTITIONS // 2
    )


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("mongodb", "MongoDB"),
        pytest.param("elasticsearch", "Elasticsearch", marks=LONG_LANE),
    ],
)
async def test_a_server_down_is_said(page: Tab, bank: Bank, name: str, called: str) -> None:
    page.refusals = True
    await page.show()
    server = bank.embedded.servers[name]
    await page.says("up", where=f".servers [data-key={name}]")
    await server.kill(signal.SIGKILL)
    await server.wait_dead()
    try:
        await page.says(f"{called} is down.", where="#troubles")
        await page.says("down", where=f".servers [data-key={name}]")
        if name == "mongodb":  # nobody knows how many there are: that is not 0
            await page.says("unknown", where=f"{STORED} [data-key=Events] dd")
            await page.says("unknown", where=f"{STORED} .rate")
        else:
            await page.says("unknown", where="[data-key=projection] [data-key=balance]")
            await page.show("accounts")
            await page.says("The projection can't be read right now.")
    finally:
        await server.start()
    await page.show()
    await expect(page.page.locator(f"#troubles [data-key=down-{name}]")).not_to_be_attached()
    await page.says("up", where=f".servers [data-key={name}]")


@LONG_LANE
async def test_what_is_old_is_said_to_be_old(page: Tab, bank: Bank) -> None:
    page.refusals = True
    await page.show()
    await page.says("Live", where="#live")
    await bank.balances.kill(signal.SIGSTOP)
    try:
        await page.says("No new reading comes.", " old", where="#age")
        await expect(page.page.locator("main")).to_have_class(re.compile("is-stale"))
        shown = await page.page.locator("#live time").inner_text()
        await page.says("Connection lost.", "Trying again", where="#age")
        assert await page.page.locator("#live time").inner_text() == shown
    finally:
        await bank.balances.kill(signal.SIGCONT)
    await expect(page.page.locator("#age")).to_be_empty()
    await expect(page.page.locator("main")).not_to_have_class(re.compile("is-stale"))


async def test_it_connects_again_to_a_service_that_was_away(
    page: Tab, bank: Bank, browser: Browser
) -> None:
    page.refusals = True
    await page.show()
    await page.says("Live", where="#live")
    await bank.balances.kill()
    await page.says("Connection lost.", where="#age")
    await bank.balances.start()
    await page.says("Live", where="#live")
    await expect(page.page.locator("#age")).to_be_empty()


async def test_it_can_be_paused(page: Tab) -> None:
    await page.show()
    await page.says("Live", where="#live")
    await page.press("Pause")
    await page.says("Paused.", where="#age")
    shown, began = await page.page.locator("#live time").inner_text(), time.monotonic()
    await page.says("What is shown is 2", where="#age")
    assert time.monotonic() - began > 1
    assert await page.page.locator("#live time").inner_text() == shown
    await page.press("Resume")
    await page.says("Live", where="#live")
