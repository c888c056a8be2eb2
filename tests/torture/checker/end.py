"""The verdict at the end: wait until all is shown, then judge everything there is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import aiohttp

from tests.torture.breaches import Breaches
from tests.torture.checker import stores
from tests.torture.checker.fold import GROUPS, PROJECTIONS, Event, Fields
from tests.torture.checker.guards import check_guards, check_replicas
from tests.torture.checker.holds import check_holds, check_reversals, overdue
from tests.torture.checker.personal import check_keys, found, gone
from tests.torture.checker.shown import (
    check_documents,
    check_groups,
    check_log,
    check_rebuilt,
    differences,
)
from tests.torture.checker.stores import Shown
from tests.torture.checker.truth import check_history, check_store, check_sums
from tests.torture.history import History

MARK: Final = "Torture"
"""The header of what a fault put into the log."""

_EVERY: Final = 0.3
_SOON: Final = timedelta(seconds=15)
"""More than clients let a hold that is to expire last."""

Ask = Callable[[str, str], Awaitable[tuple[int, Any]]]
Histories = dict[str, list[Event]]


class Judge:
    """Judges a bank that is at rest. `ask` sends a request to the balance service; `replicas` is
    how many each stream should have, if that is to be judged. `read`: when it began to read events.

    A judge of another application has the names that it has at the servers, and the fold of each of
    its projections and groups, by its name."""

    log: ClassVar = "balance"
    prefix: ClassVar = ""
    checkpoints: ClassVar = "bank-"
    projections: ClassVar[Mapping[str, Callable[[Histories], dict[str, Fields]]]] = PROJECTIONS
    groups: ClassVar[Mapping[str, Callable[[Histories], dict[str, Fields]]]] = GROUPS

    def __init__(
        self,
        urls: dict[str, str],
        database: str,
        ask: Ask,
        history: History,
        breaches: Breaches,
        replicas: int | None = None,
    ) -> None:
        self._urls = urls
        self._mongodb, self._nats = (urls["mongodb"], database), urls["nats"]
        self.read = datetime.now(UTC)
        self._elasticsearch, self._replicas = urls["elasticsearch"], replicas
        self._ask, self.history, self.breaches = ask, history, breaches

    async def judge(self, seconds: float) -> None:
        """Everything; what is projected may take so long to show all that is stored."""
        deadline = time.monotonic() + seconds
        histories = await self._rested(deadline)
        self.judge_events(histories)
        for projection, fold in self.projections.items():
            wanted, alias = fold(histories), self.prefix + projection
            documents = await self._settled(alias, wanted, deadline)
            check_documents(wanted, documents, self.breaches)
            await self._check_copies(alias, wanted)
            if projection == "balance":
                shown = {n: int(each.source.get("balance", 0)) for n, each in documents.items()}
                check_sums(histories, shown, self.breaches)
        check_log(await stores.log(self._nats, MARK, self.log), self.breaches)
        check_guards(
            await stores.unique_keys(*self._mongodb),
            await stores.aliases(self._elasticsearch),
            self.breaches,
            [self.prefix + projection for projection in self.projections],
            self.checkpoints,
        )
        if self._replicas is not None:
            check_replicas(await stores.replicas(self._nats), self._replicas, self.breaches)
        for projection in self.projections:
            await self._rebuilt(projection, seconds)
        # Now that there are two generations, of which only one counts.
        for name, fold in self.groups.items():
            async with asyncio.timeout(seconds):
                check_groups(fold(histories), await self._groups(name), self.breaches)
        await self._forgotten(histories, seconds)

    def judge_events(self, histories: Histories) -> None:
        """What is stored, and then what clients were told of it."""
        check_store(histories, self.breaches)
        check_holds(histories, self.breaches, self.read)
        check_reversals(histories, self.breaches)
        check_history(self.history, histories, self.breaches)

    def waiting(self, histories: Histories, now: datetime) -> Iterator[str]:
        """What should have had its event by then."""
        return overdue(histories, now)

    async def _rested(self, deadline: float) -> Histories:
        """All events, when no deadline is left that comes soon, whose event would come while the
        documents are compared; or when the time is up."""
        while True:
            self.read = datetime.now(UTC)
            histories = await stores.histories(*self._mongodb)
            late = any(self.waiting(histories, self.read + _SOON))
            if not late or time.monotonic() > deadline:
                return histories
            await asyncio.sleep(_EVERY)

    async def _forgotten(self, histories: Histories, seconds: float) -> None:
        """No name that was forgotten is anywhere: an index that was replaced is deleted soon."""
        check_keys(histories, await stores.keys(*self._mongodb), self.breaches)
        if not (names := {*gone(self.history, histories)}):
            return
        deadline = time.monotonic() + seconds
        while True:
            there = found(names, await stores.raw(self._urls, self._mongodb[1], self.log))
            if not there or time.monotonic() > deadline:
                break
            await asyncio.sleep(_EVERY)
        self.breaches.looked(19, len(names))
        for each in there:
            self.breaches.add(19, each)

    async def _settled(
        self, projection: str, wanted: dict[str, Fields], deadline: float
    ) -> dict[str, Shown]:
        """The documents when all are right, or when the time is up: then some are wrong."""
        found: dict[str, Shown] = {}
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError, KeyError):
                found = await stores.documents(self._elasticsearch, projection)
                if not differences(wanted, found):
                    break
            await asyncio.sleep(_EVERY)
        return found

    async def _check_copies(self, projection: str, wanted: dict[str, Fields]) -> None:
        """Each copy has the same: a node that has one answers from its own."""
        nodes = self._elasticsearch.split(",")
        for node in nodes if len(nodes) > 1 else ():
            own = await stores.documents(node, projection, preference="_local")
            check_documents(wanted, own, self.breaches)

    async def _rebuilt(self, projection: str, seconds: float) -> None:
        """Have a generation built beside the live one, and compare the two."""
        url = self._elasticsearch
        alias = self.prefix + projection
        before = await stores.documents(url, alias)
        live = (await stores.aliases(url)).get(alias)
        try:
            async with asyncio.timeout(seconds):
                state = await self._ended(await self._started(projection))
        except TimeoutError:
            self.breaches.add(10, f"the rebuild of {projection} did not come to its end")
            return
        now = (await stores.aliases(url)).get(alias)
        done = state == "done" and now != live
        self.breaches.judge(10, done, f"the rebuild of {live} is {state}, and {now} is live")
        check_rebuilt(before, await stores.documents(url, alias), self.breaches)

    async def _groups(self, name: str) -> list[Fields]:
        """All that the balance service shows."""
        found: list[Fields] = []
        place = ""
        while True:
            status, body = await self._ask("GET", f"/projections/{name}?limit=7{place}")
            if status != 200:
                await asyncio.sleep(_EVERY)
                continue
            found += body["data"]
            if not body["has_more"]:
                return found
            place = f"&starting_after={body['next']}"

    async def _started(self, projection: str) -> str:
        """The id of one that is ours: one that a fault has left is waited for first."""
        while True:
            status, body = await self._ask("GET", "/rebuilds")
            if status == 200 and all(each["state"] != "running" for each in body["data"]):
                status, body = await self._ask("POST", f"/{projection}/rebuild")
                if status == 202:
                    return str(body["id"])
            await asyncio.sleep(_EVERY)

    async def _ended(self, rebuild: str) -> str:
        """How it ended."""
        while True:
            status, body = await self._ask("GET", f"/rebuilds/{rebuild}")
            if status == 200 and body["state"] != "running":
                return str(body["state"])
            await asyncio.sleep(_EVERY)
