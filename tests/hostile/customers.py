"""Those who go on paying meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from pipeline.support.settings import Settings


class Customers:
    """Accounts into which somebody pays 1 again and again, and what was acknowledged."""

    def __init__(self, http: aiohttp.ClientSession, settings: Settings) -> None:
        self._http = http
        self.accounts = f"http://127.0.0.1:{settings.accounts_port}"
        self.shown = f"http://127.0.0.1:{settings.balances_port}"
        self.balances: dict[str, int] = {}
        self._turn = 0

    async def open(self, count: int) -> None:
        for number in range(count):
            body = {"owner": f"Ada {number}", "money": 100}
            async with self._http.post(f"{self.accounts}/create", json=body) as answer:
                self.balances[(await answer.json())["id"]] = 100

    async def pay(self, times: int) -> None:
        """Pay into one after the other; raises unless that is done and rightly answered."""
        for _ in range(times):
            await self._pay()

    async def _pay(self) -> None:
        self._turn += 1
        account_id = list(self.balances)[self._turn % len(self.balances)]
        body = {"id": account_id, "money": 1}
        async with self._http.post(f"{self.accounts}/deposit", json=body) as answer:
            assert answer.status == 200, await answer.text()
            self.balances[account_id] += 1
            assert (await answer.json())["balance"] == self.balances[account_id]

    @asynccontextmanager
    async def paying(self) -> AsyncIterator[None]:
        """Somebody pays all the while."""
        stop = asyncio.Event()

        async def pays() -> None:
            while not stop.is_set():
                await self._pay()
                await asyncio.sleep(0.02)

        task = asyncio.create_task(pays())
        try:
            yield
        finally:
            stop.set()
            await task

    async def all_shown(self) -> bool:
        """Whether readers see what was acknowledged."""
        for account_id, balance in self.balances.items():
            async with self._http.get(f"{self.shown}/{account_id}") as answer:
                if answer.status != 200 or (await answer.json())["balance"] != balance:
                    return False
        return True
