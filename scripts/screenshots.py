#!/usr/bin/env python3
"""Take the pictures of the operator's page in docs/images/, of a scratch bank with some load.

    .venv/bin/python scripts/screenshots.py

It needs Chromium (Debian: apt-get install chromium) and takes about four minutes. The hour of
activity and of lag is a made-up one; all else is what the bank does.
"""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from playwright.async_api import Browser

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.messaging import JetStream  # noqa: E402
from pipeline.messaging.changelog_subjects import encode_key  # noqa: E402
from pipeline.operations.status.last_hour import STEP  # noqa: E402
from pipeline.tables.activity_reader import MINUTES  # noqa: E402
from tests.bank import accounts as histories  # noqa: E402
from tests.bank import append  # noqa: E402
from tests.conftest import placed  # noqa: E402
from tests.harness import eventually  # noqa: E402
from tests.names import CHANGELOG  # noqa: E402
from tests.page.bank import Bank, opened  # noqa: E402
from tests.page.browser import DESKTOP, PHONE, Scheme, chromium, tab  # noqa: E402

IMAGES = ROOT / "docs" / "images"
OWNERS = (
    "Ada Lovelace",
    "Ana Martins",
    "Barbara Liskov",
    "Edsger Dijkstra",
    "Grace Hopper",
    "Leslie Lamport",
    "Margaret Hamilton",
    "Paulo Quintans",
    "Radia Perlman",
    "Tony Hoare",
)
KINDS = {"MoneyDeposited": 90, "MoneyWithdrawn": 70, "AccountCreated": 12, "OwnerUpdated": 3}
OF_A_REBUILD, AT_ONCE = 6000, 250
"""Accounts: enough for bars that are half full."""
EARLIER = """(hour) => {
  const ask = window.fetch;
  window.fetch = async (address, ...more) => {
    const answer = await ask(address, ...more);
    if (!String(address).endsWith('/pipeline/events')) return answer;
    const { readable, writable } = new TransformStream({
      start: (out) => out.enqueue(new TextEncoder().encode(`event: hour\\ndata: ${hour}\\n\\n`)),
    });
    answer.body.pipeTo(writable).catch(() => {});
    return new Response(readable, answer);
  };
}"""
"""Puts an hour before what the stream of readings has."""


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bank-pictures-"))
    settings = placed(
        folder, partitions=4, projections="balance statement", rebuild_rate=150, lease_seconds=3
    )
    try:
        async with chromium() as browser, opened(settings) as bank:
            await pictures(browser, bank)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def pictures(browser: Browser, bank: Bank) -> None:
    """All of them, of the bank as it goes through its day."""
    chance = random.Random(7)
    accounts = [await bank.account(owner, *amounts(chance)) for owner in OWNERS]
    await an_hour(bank, chance)
    async with bank.traffic():
        await shoot(browser, bank, "overview", "overview", seconds=30)
        await shoot(browser, bank, "overview", "overview-dark", scheme="dark", seconds=30)
        await shoot(browser, bank, "overview", "overview-phone", size=PHONE)
        await shoot(browser, bank, "events", "events", wanted="Paid in", seconds=5)
        await shoot(
            browser,
            bank,
            f"trace/{await a_command(bank, accounts[4])}",
            "trace",
            wanted="readers see it",
        )
    of_the_past = f"accounts/{accounts[4]}?version=4"
    await shoot(browser, bank, of_the_past, "account-in-time", wanted="Version 4 of", at="#past")
    async with bank.poisoned() as (sick, _):
        await shoot(browser, bank, "parked", "parked", wanted=sick)
    for _ in range(OF_A_REBUILD // AT_ONCE):
        await append(bank.store, histories(AT_ONCE, length=1))
    async with rebuilding(bank):
        await shoot(browser, bank, "rebuild", "rebuild", scheme="dark", seconds=14)
    await bank.fleet.workers["w1"].kill(signal.SIGSTOP)  # or it would have what w2 had at once
    await bank.fleet.kill("w2")
    await shoot(browser, bank, "partitions", "lost-worker", wanted="Worker w2 does not answer.")
    await bank.fleet.workers["w1"].kill(signal.SIGCONT)
    await bank.fleet.has(bank.settings.partitions)
    await shoot(browser, bank, "timeline", "timeline", seconds=8)


async def shoot(
    browser: Browser,
    bank: Bank,
    view: str,
    name: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    wanted: str = "Live",
    at: str = "h1",
    seconds: float = 2,
) -> None:
    """A picture of what is seen when `at` is in sight, so long after what is wanted is there."""
    async with tab(browser, bank.address, size, scheme, refusals=True) as page:
        await page.page.add_init_script(f"({EARLIER})({orjson.dumps(an_hour_of_lag()).decode()!r})")
        await page.show(view)
        await page.says("Live", wanted)
        await page.page.locator(at).evaluate(
            "(each) => each.tagName !== 'H1' && each.scrollIntoView()"
        )
        await asyncio.sleep(seconds)
        await page.page.screenshot(path=IMAGES / f"{name}.png")
        print(f"docs/images/{name}.png")


async def a_command(bank: Bank, account_id: str) -> str:
    """The correlation id of one that was just executed."""
    async with bank.http.post("/deposit", json={"id": account_id, "money": 250}) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["X-Correlation-ID"]


def an_hour_of_lag() -> dict[str, Any]:
    """The points of an hour, in the middle of which a worker was away for some minutes."""
    chance, now = random.Random(7), int(time.time()) // STEP * STEP
    at = list(range(now - 3600, now, STEP))
    rates = [chance.uniform(7, 12) for _ in at]
    away = [max(0, 120 - abs(n - len(at) // 2) * STEP) / 4 for n in range(len(at))]
    lag = [chance.uniform(0, 0.3) + late for late in away]
    course = {"rate": rates, "lag_seconds": [each / 20 for each in rates]}
    return {
        "at": at,
        "commands": rates,
        "stored": rates,
        "forwarded": course,
        "projected": {"balance": {**course, "lag_seconds": lag}, "statement": course},
    }


def amounts(chance: random.Random) -> list[int]:
    return [chance.randint(100, 90_000) for _ in range(chance.randint(5, 14))]


async def an_hour(bank: Bank, chance: random.Random) -> None:
    """Minutes before this one, written as the table of activity writes them."""
    js = await JetStream.connect(bank.settings.nats_url, "pictures")
    await eventually(lambda: js.state(CHANGELOG), seconds=60)
    now = int(time.time()) // 60 * 60
    for minute in range(now - (MINUTES - 1) * 60, now, 60):
        for kind, usual in KINDS.items():
            events = round(usual * chance.uniform(0.6, 1.4))
            for figure, number in (("events", events), ("money", events * chance.randint(50, 900))):
                key = encode_key(orjson.dumps([f"0:{kind}:{figure}", [minute, minute + 59.9]]))
                await js.context.publish(f"{CHANGELOG}.0.{key}", orjson.dumps(number))
    await js.close()


@asynccontextmanager
async def rebuilding(bank: Bank) -> AsyncIterator[None]:
    async with bank.http.post(f"{bank.address}/balance/rebuild") as answer:
        assert answer.status == 202, await answer.text()
        rebuild = (await answer.json())["id"]
    yield
    async with bank.http.delete(f"{bank.address}/rebuilds/{rebuild}"):
        pass


if __name__ == "__main__":
    asyncio.run(main())
