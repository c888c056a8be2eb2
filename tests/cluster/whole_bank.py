"""A whole bank: every role as a process, clients over HTTP, and a verdict as torture gives it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any, Final, Self

import aiohttp

from pipeline.model.events import partition_of, slot_of
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.invariants import invariants_hold
from tests.outages import Bank
from tests.torture.breaches import Breaches
from tests.torture.checker.end import Judge
from tests.torture.clients import Clients
from tests.torture.gate import Gate
from tests.torture.history import History

_PAUSE: Final = 0.05
_SECONDS: Final = 120.0
_STORES: Final = ("mongodb", "elasticsearch")


class Shown:
    """Reads what clients were told as soon as the balance service shows it, by partition.

    `at`: by partition, when (seconds since the epoch) something new was shown.
    """

    def __init__(self, url: str, history: History, breaches: Breaches, partitions: int) -> None:
        self.at: list[list[float]] = [[] for _ in range(partitions)]
        self._url, self._history, self._breaches = url, history, breaches
        self._partition_of = cache(lambda account: partition_of(slot_of(account), partitions))
        self._before: dict[str, int] = {}
        self._new = [0] * partitions
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Read until `stop`."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(self._url, timeout=timeout) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for partition in range(len(self.at)):
                tasks.create_task(self._follow(http, partition))

    def stop(self) -> None:
        self._stop.set()

    async def more(self, count: int = 3) -> None:
        """Wait until each partition has shown so much of what is told from now on."""
        self._before, self._new = dict(self._history.versions), [0] * len(self.at)
        await eventually(
            lambda: min(self._new) >= count, seconds=_SECONDS, message="all partitions show news"
        )

    async def _follow(self, http: aiohttp.ClientSession, partition: int) -> None:
        seen: dict[str, int] = {}
        while not self._stop.is_set():
            if (account := self._news(partition, seen)) is not None:
                seen[account] = await self._read(http, partition, account, seen.get(account, 0))
            await asyncio.sleep(_PAUSE)

    def _news(self, partition: int, seen: dict[str, int]) -> str | None:
        """An account of the partition with a version that was not shown yet."""
        for account, version in self._history.versions.items():
            if version > seen.get(account, 0) and self._partition_of(account) == partition:
                return account
        return None

    async def _read(
        self, http: aiohttp.ClientSession, partition: int, account: str, seen: int
    ) -> int:
        """The version that was shown by now."""
        wanted = self._history.versions[account]
        try:
            async with http.get(f"/{account}?min_version={wanted}&timeout=2") as answer:
                status, body = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError):
            return seen
        if status != 200 or body.get("stale"):
            return seen
        version = int(body["version"])
        self._breaches.judge(7, version >= wanted, f"{account}: {version} is not {wanted}")
        self.at[partition].append(time.time())
        self._new[partition] += version > self._before.get(account, 0)
        return version


class WholeBank(Bank):
    """Both services, two forwarders and two workers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.roles |= {kind: Role(settings, "bank", kind) for kind in ("accounts", "balances")}
        self.history, self.breaches = History(), Breaches()
        self.shown = Shown(self._url("balances"), self.history, self.breaches, settings.partitions)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.roles["standby"] = standby = Role(self.settings, "bank", "forwarder")
        await self._stack.enter_async_context(standby)
        for kind in ("accounts", "balances"):
            await eventually(partial(self._ready, kind), message=f"{kind} is ready")
        return self

    @asynccontextmanager
    async def commanded(self) -> AsyncIterator[None]:
        """Clients send commands while the block runs; each has its answer afterwards."""
        clients = Clients([self._url("accounts")], Gate(), 1, self.history, self.breaches)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(clients.run())
            tasks.create_task(self.shown.run())
            await self.shown.more()
            yield
            clients.stop()
            self.shown.stop()
        await clients.finish(_SECONDS)

    async def holds(self, nats_url: str) -> None:
        """Assert all that torture judges, and all that the bank's own checker does."""
        urls = {name: str(getattr(self.settings, f"{name}_url")) for name in _STORES}
        judge = Judge(
            {**urls, "nats": nats_url},
            self.settings.mongodb_database,
            self._ask,
            self.history,
            self.breaches,
        )
        await judge.judge(_SECONDS)
        for name, role in self.roles.items():
            self.breaches.judge(12, role.exit_code is None, f"{name} ended by itself")
        assert not self.breaches.found
        await invariants_hold(self.settings)

    def _url(self, kind: str) -> str:
        return f"http://127.0.0.1:{getattr(self.settings, f'{kind}_port')}"

    async def _ready(self, kind: str) -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{self._url(kind)}/readyz") as answer:
            return answer.status == 200

    async def _ask(self, method: str, path: str) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(self._url("balances")) as http,
            http.request(method, path) as answer,
        ):
            return answer.status, await answer.json(content_type=None)
