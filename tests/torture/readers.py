"""Readers of both services, who notice what must never be shown while all else goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import aiohttp

from tests.torture.breaches import Breaches
from tests.torture.history import History
from tests.torture.world import Era, World

_PAUSE: Final = 0.05
_SECONDS: Final = 8.0
_GROUPS: Final = 10
"""Of a page: few, for there is something to see where one page ends and the next begins."""
_RECENT: Final = 30
"""Holds of which one is looked at."""
_ROUTES: Final = ("list", "document", "statement")


class Floor(NamedTuple):
    """The least versions that a request may be answered with, and when that was so: what
    Elasticsearch shows after its end is compared with nothing before it, for it may have lost its
    last second."""

    era: Era
    versions: dict[str, int]


class Readers:
    """Each route has the versions that were shown there; a request compares with those that had
    been shown when it was sent, for answers overtake each other.

    A process of the balance service lets nothing go back that it has shown itself (`_own`). What
    the processes before it have shown counts as long as no copy of a shard comes or goes."""

    def __init__(self, world: World, seed: int, history: History, breaches: Breaches) -> None:
        self._world, self._seed = world, seed
        self._history, self._breaches = history, breaches
        self._shown = _nothing()
        self._own = _nothing()
        self._era = world.era
        self._stop = asyncio.Event()
        self._http: aiohttp.ClientSession

    async def run(self) -> None:
        """Read until `stop`."""
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as self._http,
            asyncio.TaskGroup() as tasks,
        ):
            readers = (
                *(self._walk, self._document, self._statement),
                *(self._groups, self._fresh, self._strong, self._hold),
            )
            for reader in readers:
                chance = random.Random(f"{reader.__name__} {self._seed}")
                tasks.create_task(self._for_ever(reader, chance))

    def stop(self) -> None:
        self._stop.set()

    async def _for_ever(
        self, read: Callable[[random.Random], Awaitable[None]], chance: random.Random
    ) -> None:
        while not self._stop.is_set():
            if self._history.versions:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await read(chance)
            await asyncio.sleep(_PAUSE)

    async def _walk(self, _: random.Random) -> None:
        """All accounts, page by page: whoever was in the walk before is in this one."""
        before, hidden = self.floor("list"), self._world.hidden
        seen, after = set(), ""
        while True:
            floor = self.floor("list")
            status, body = await self._get(f"/?sort=id&limit=100{after}")
            if status != 200:
                return
            for document in body["data"]:
                seen.add(document["id"])
                await self.saw("list", floor, document)
            if not body["has_more"]:
                break
            after = f"&starting_after={body['data'][-1]['id']}"
        missing = before.versions.keys() - seen
        still = not self._world.moving and await self._comparable(before, not missing)
        if self._sighted(hidden) and still:
            self._breaches.judge(6, not missing, f"missing in the list: {sorted(missing)[:3]}")

    async def _document(self, chance: random.Random) -> None:
        account, hidden = self._drawn(chance), self._world.hidden
        floor = self.floor("document")
        status, body = await self._get(f"/{account}")
        if status == 200:
            await self.saw("document", floor, body)
        elif status == 404 and account in floor.versions and self._sighted(hidden):
            there = not await self._comparable(floor, False)
            self._breaches.judge(6, there, f"{account} was shown, and is not found any more")

    async def _statement(self, chance: random.Random) -> None:
        """The newest entry. While an index is filled again its entries come one after another."""
        account, hidden = self._drawn(chance), self._world.hidden
        floor = self.floor("statement")
        status, body = await self._get(f"/{account}/statement?limit=1")
        if status == 200 and body["data"] and self._sighted(hidden):
            await self.saw("statement", floor, {**body["data"][0], "id": account})

    async def _groups(self, _: random.Random) -> None:
        """No account counts twice, unless somebody has given the alias a second index."""
        twice = await self._counted_twice()
        if twice:
            before = await self._has_one_index()
            twice = await self._counted_twice()
            if not (before and await self._has_one_index()):
                return
        self._breaches.judge(20, not twice, twice)

    async def _counted_twice(self) -> str:
        """An owner with more accounts than commands ever gave to that name, or one that comes again
        on another page, if there is one."""
        last, after = "", ""
        while True:
            status, body = await self._get(f"/projections/owners?limit={_GROUPS}{after}")
            given = Counter(each.command.body.get("owner") for each in self._history.all)
            for each in body["data"] if status == 200 else ():
                if each["shares"] > given[each["id"]] > 0:
                    return f"{each['id']} has {each['shares']} of {given[each['id']]} accounts"
                if each["id"] <= last:
                    return f"{each['id']} comes after {last}"
                last = each["id"]
            if status != 200 or not body["has_more"]:
                return ""
            after = f"&starting_after={body['next']}"

    async def _has_one_index(self) -> bool:
        status, found = await self._world.ask("GET", "/_alias/balance")
        return status == 200 and len(found) == 1

    async def _fresh(self, chance: random.Random) -> None:
        """With the version that was acknowledged: a fresh answer has at least that."""
        account = self._drawn(chance)
        version = self._history.versions[account]
        status, body = await self._get(f"/{account}?min_version={version}&timeout=2")
        if status == 200 and not body.get("stale"):
            holds = body["version"] >= version
            self._breaches.judge(7, holds, f"{account}: {body['version']} is not {version}")

    async def _hold(self, chance: random.Random) -> None:
        """One that nobody was asked to end is open until its time, whatever clocks there are."""
        now, recent = datetime.now(UTC), list(self._history.holds.items())[-_RECENT:]
        ahead = [(hold, account, until) for hold, (account, until) in recent if until > now]
        if not ahead:
            return
        hold, account, until = chance.choice(ahead)
        async with self._http.get(f"{chance.choice(self._world.accounts)}/{account}") as answer:
            status, body = answer.status, await answer.json(content_type=None)
        if status == 200 and hold not in self._history.ending and datetime.now(UTC) < until:
            there = any(each["id"] == hold for each in body["holds"])
            self._breaches.judge(17, there, f"{account}: hold {hold} has ended before {until}")

    async def _strong(self, chance: random.Random) -> None:
        """The account services read from the store: what was acknowledged is there."""
        account, url = self._drawn(chance), chance.choice(self._world.accounts)
        version = self._history.versions[account]
        async with self._http.get(f"{url}/{account}") as answer:
            status, body = answer.status, await answer.json(content_type=None)
        if status == 200:
            there = f"{account}: {body['version']}, but {version} was acknowledged"
            self._breaches.judge(3, body["version"] >= version, there)
            left = body["balance"] - sum(hold["money"] for hold in body["holds"])
            sound = body["available"] == left >= 0
            self._breaches.judge(5, sound, f"{account}: {body['available']} is available of {body}")
        elif status == 404:
            self._breaches.judge(3, False, f"{account} was acknowledged, and is not found")

    async def _get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(self._world.balances + path) as answer:
            return answer.status, await answer.json(content_type=None)

    def _drawn(self, chance: random.Random) -> str:
        accounts = list(self._history.versions)
        return accounts[int(len(accounts) * chance.random() ** 3)]

    def _sighted(self, hidden: int) -> bool:
        """Whether nothing has hidden the projection since then."""
        return not self._world.hiding and self._world.hidden == hidden

    def floor(self, route: str) -> Floor:
        """For a request that is sent now."""
        self._forget()
        return Floor(self._era, dict(self._shown[route]))

    def _forget(self) -> None:
        """What nobody promises any more."""
        before, self._era = self._era, self._world.era
        if before.life != self._era.life:
            self._shown, self._own = _nothing(), _nothing()
        if before.served != self._era.served:
            self._own = _nothing()
        if before != self._era and (self._world.moving or before.moved != self._era.moved):
            self._shown = {route: dict(own) for route, own in self._own.items()}

    async def _comparable(self, floor: Floor, holds: bool) -> bool:
        """Whether an answer has to keep to the floor. If it does not, the copies are looked at: one
        may have come or gone by no fault."""
        if not holds:
            await self._world.look_at_copies()
        return floor.era == self._world.era

    async def saw(self, route: str, floor: Floor, document: dict[str, Any]) -> None:
        account, version, balance = document["id"], document["version"], document["balance"]
        self._breaches.judge(5, balance >= 0, f"{route}: {account} has {balance}")
        least = floor.versions.get(account, 0)
        if not await self._comparable(floor, version >= least):
            return
        self._breaches.judge(
            6, version >= least, f"{route}: {account} went from {least} back to {version}"
        )
        for shown in (self._shown[route], self._own[route]):
            shown[account] = max(version, shown.get(account, 0))


def _nothing() -> dict[str, dict[str, int]]:
    """By route."""
    return {route: {} for route in _ROUTES}
