"""The verdict at the end: wait until all is shown, then judge everything there is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.torture.breaches import Breaches
from tests.torture.checker import stores
from tests.torture.checker.fold import Account, states
from tests.torture.checker.shown import check_documents, check_log, check_rebuilt, differences
from tests.torture.checker.truth import check_history, check_store, check_sums
from tests.torture.history import History

MARK: Final = "Torture"
"""The header of what a fault put into the log."""

Ask = Callable[[str, str], Awaitable[tuple[int, Any]]]


class Judge:
    """Judges a bank that is at rest. `ask` sends a request to the balance service."""

    def __init__(
        self, urls: dict[str, str], database: str, ask: Ask, history: History, breaches: Breaches
    ) -> None:
        self._urls, self._database, self._ask = urls, database, ask
        self._history, self._breaches = history, breaches

    async def judge(self, seconds: float) -> None:
        """Everything; the projection may take so long to show all that is stored."""
        histories = await stores.histories(self._urls["mongodb"], self._database)
        check_store(histories, self._breaches)
        check_history(self._history, histories, self._breaches)
        accounts = {name: states(events)[-1] for name, events in histories.items()}
        await self._settled(accounts, seconds)
        documents = await stores.documents(self._urls["elasticsearch"])
        check_documents(accounts, documents, self._breaches)
        shown = {name: int(each.source.get("balance", 0)) for name, each in documents.items()}
        check_sums(histories, shown, self._breaches)
        check_log(await stores.log(self._urls["nats"], MARK), self._breaches)
        await self._rebuilt(seconds)

    async def _settled(self, accounts: dict[str, Account], seconds: float) -> None:
        """Wait until every document is right, or the time is up: what is wrong then is told."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                found = await stores.documents(self._urls["elasticsearch"])
            except (OSError, TimeoutError, KeyError):
                found = {}
            if not differences(accounts, found):
                return
            await asyncio.sleep(0.3)

    async def _rebuilt(self, seconds: float) -> None:
        """Have a generation built beside the live one, and compare the two."""
        url = self._urls["elasticsearch"]
        before, name = await stores.documents(url), await stores.behind_alias(url)
        try:
            async with asyncio.timeout(seconds):
                rebuild = await self._started()
                while rebuild["state"] == "running":
                    await asyncio.sleep(0.2)
                    status, body = await self._ask("GET", f"/rebuilds/{rebuild['id']}")
                    rebuild = body if status == 200 else rebuild
        except TimeoutError:
            self._breaches.add(10, "the rebuild did not come to its end")
            return
        now = await stores.behind_alias(url)
        done = rebuild["state"] == "done" and now != name
        self._breaches.judge(10, done, f"the rebuild ended as {rebuild['state']} with {now}")
        check_rebuilt(before, await stores.documents(url), self._breaches)

    async def _started(self) -> dict[str, Any]:
        """A rebuild that is ours: one that a fault has left is waited for first."""
        while True:
            status, body = await self._ask("GET", "/rebuilds")
            running = (
                [each for each in body["data"] if each["state"] == "running"]
                if status == 200
                else [0]
            )
            if not running:
                status, body = await self._ask("POST", "/balance/rebuild")
                if status == 202:
                    return dict(body)
            await asyncio.sleep(0.2)
