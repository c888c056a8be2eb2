"""What hands do to an index: documents changed, deleted and added, each by a plain request."""

from typing import Any, Final
from urllib.parse import quote

import aiohttp

from pipeline.banking.balance import BALANCE
from pipeline.model.projection import ERA

HIGHEST: Final = 2**63 - 1

CHANGES: Final = (
    "same",
    "fields",
    "junk",
    "empty",
    "version up",
    "version down",
    "newer",
    "newer era",
    "older era",
    "forged",
    "huge",
    "ceiling",
    "highest",
    "delete",
)
"""What can be done to a document that is there."""

GHOSTS: Final = ("ghost", "ghost without fields", "ghost of the highest version")
"""What can be put where no document should be."""


class Hand:
    """Damages one index."""

    def __init__(self, http: aiohttp.ClientSession, index: str) -> None:
        self._http, self._index = http, index

    async def do(self, kind: str, account_id: str) -> None:
        """Do one of `CHANGES` or `GHOSTS` to a document."""
        there = await self.found(account_id)
        document: dict[str, Any] = there["_source"] if there else ghost(account_id)
        version, number = document.get("version", 1), there["_version"] if there else 1
        lies = {"owner": "Mallory", "balance": 10**9}
        rich = document | {name: lies[name] for name in lies.keys() & document.keys()}
        match kind:
            case "same":
                await self.put(account_id, document)
            case "fields":
                await self.put(account_id, rich)
            case "junk":
                await self.put(account_id, {"id": account_id, "balance": 10**9})
            case "empty" | "ghost without fields":
                await self.put(account_id, {})
            case "version up":
                await self.put(account_id, {**rich, "version": version + 50})
            case "version down":
                await self.put(account_id, {**rich, "version": 1})
            case "newer":
                number += 50
                await self.put(account_id, {**rich, "version": number % ERA}, number)
            case "newer era":
                number = (number // ERA + 5) * ERA + version + 50
                await self.put(account_id, {**rich, "version": version + 50}, number)
            case "older era":
                await self.put(account_id, {**rich, "version": 1}, (number // ERA + 1) * ERA + 1)
            case "forged":
                await self.put(account_id, rich, number)
            case "huge":
                await self.put(account_id, rich, max(2**62, number + ERA))
            case "ceiling":
                await self.put(account_id, rich, HIGHEST - 7)
            case "highest" | "ghost of the highest version":
                await self.put(account_id, rich, HIGHEST)
            case "delete":
                await self.delete(account_id)
            case "ghost":
                await self.put(account_id, document)
            case _:
                raise AssertionError(kind)

    async def put(self, account_id: str, document: Any, version: int | None = None) -> None:
        """Write a document; a `version` that is not above the present one is refused."""
        query = ""
        if version is not None:
            query = f"?version={min(version, HIGHEST)}&version_type=external_gte"
        path = self._path(account_id) + query
        async with self._http.put(path, json=document) as answer:
            assert answer.status in (200, 201, 409), await answer.text()

    async def delete(self, account_id: str) -> None:
        async with self._http.delete(self._path(account_id)) as answer:
            assert answer.status in (200, 404), await answer.text()

    async def found(self, account_id: str) -> dict[str, Any] | None:
        async with self._http.get(self._path(account_id)) as answer:
            there = await answer.json()
        return there if there.get("found") else None

    def _path(self, account_id: str) -> str:
        return f"/{self._index}/_doc/{quote(account_id, safe='')}"


def ghost(account_id: str) -> dict[str, Any]:
    """A whole document of an account that is not there, whose fields lie."""
    document = {
        "id": "01K00000000000000000000000",
        "owner": "Nobody",
        "owner_plain": "nobody",
        "balance": 7,
        "status": "open",
        "version": 3,
        "slot": 512,
        "event_id": f"no event of {account_id}",
        "updated_at": "2026-01-01T00:00:00.000Z",
    }
    assert document.keys() == BALANCE.fields
    return document
