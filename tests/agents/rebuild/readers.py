"""Readers of the balance service who notice whatever a rebuild must never show."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Readers:
    """What readers saw: by route, each account's newest version; and what must not be."""

    url: str
    pages: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    answers: int = 0

    async def page_by_page(self, http: aiohttp.ClientSession) -> None:
        """All accounts by id, once: those of the last walk must all be in this one."""
        before, seen, after = set(self.pages), set(), ""
        while True:
            status, body = await self._get(http, f"/?sort=id&limit=100{after}")
            if status != 200:
                return
            for document in body["data"]:
                seen.add(document["id"])
                self._saw(self.pages, document)
            if not body["has_more"]:
                break
            after = f"&starting_after={body['data'][-1]['id']}"
        self.faults += [f"{account} is missing in the list" for account in before - seen]

    async def one(self, http: aiohttp.ClientSession) -> None:
        """Any account that was seen before."""
        known = random.choice(list(self.pages | self.documents))
        status, body = await self._get(http, f"/{known}")
        if status == 200:
            self._saw(self.documents, body)

    async def _get(self, http: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
        async with http.get(self.url + path) as answer:
            self.answers += 1
            body = await answer.json(content_type=None)
            if answer.status != 200:
                self.faults.append(f"{path}: {answer.status} {body}")
            return answer.status, body

    def _saw(self, versions: dict[str, int], document: dict[str, Any]) -> None:
        account, version = document["id"], document["version"]
        if version < versions.get(account, 0):
            self.faults.append(f"{account} went from {versions[account]} back to {version}")
        versions[account] = max(version, versions.get(account, 0))


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Readers]:
    """Two readers who read all the time while the block runs."""
    readers, stop = Readers(url), asyncio.Event()

    async def walk(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            await readers.page_by_page(http)

    async def pick(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            if readers.pages:
                await readers.one(http)
            await asyncio.sleep(0.005)

    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        tasks.create_task(walk(http))
        tasks.create_task(pick(http))
        try:
            yield readers
        finally:
            stop.set()
