"""The durable list of parked accounts, in the JetStream KV bucket `parked`: one key an account.

An event that can't be applied parks its account. The account's document stays at the version
before it, its later events wait in the event store in order, and no other account waits. On request
the owner of its partition replays it, and removes it from the list if that works. Every projection
has its own list, because one may be able to fold what another one can't.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter, ValidationError

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry, Mirror
from pipeline.messaging.news import News
from pipeline.model.projection import Projection
from pipeline.support.logs import moment

log = logging.getLogger(__name__)

LONGEST: Final = 500
"""Characters of a reason that are kept."""

_TOKEN: Final = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ParkedAccount:
    """An account whose event `version` could not be applied.

    `since` is RFC 3339; `attempts` counts how often it was tried; `retry`: somebody asked for
    another try; `revision` is the entry's own.
    """

    account_id: str
    version: int
    event_id: str
    kind: str
    reason: str
    since: str
    attempts: int
    retry: bool
    revision: int


_CHECKED: Final = TypeAdapter(ParkedAccount)


class ParkedAccountList:
    """The list as this process knows it; `refresh` reads what others changed.

    Its own changes show at once. Each is made on the entry as it is at the server.
    """

    def __init__(self, js: JetStream, projection: Projection) -> None:
        self.js = js
        self._bucket = Bucket(js, projection.named("parked"))
        self._mirror = Mirror(self._bucket)
        self._known: dict[str, ParkedAccount] = {}
        self._own: set[str] = set()  # keys changed here, which the mirror may never have seen
        self._one_by_one = asyncio.Lock()  # or a refresh under way would undo a change made here

    def __contains__(self, account_id: str) -> bool:
        return bool(self._known) and _key(account_id) in self._known

    def __getitem__(self, account_id: str) -> ParkedAccount:
        return self._known[_key(account_id)]

    def get(self, account_id: str) -> ParkedAccount | None:
        """None for one that is not parked."""
        return self._known.get(_key(account_id))

    def all(self) -> list[ParkedAccount]:
        """Those parked longest come first."""
        return sorted(self._known.values(), key=lambda each: (each.since, each.account_id))

    def news(self) -> AbstractAsyncContextManager[News]:
        """The news of the list, while the block runs."""
        return self._bucket.news()

    async def refresh(self) -> frozenset[str]:
        """Read what others changed; returns the account ids whose entries changed or are gone."""
        async with self._one_by_one:
            # Own changes too: one that was undone before the mirror saw it is no news to it.
            keys = await self._mirror.refresh() | self._own
            self._own.clear()
            changed: set[str] = set()
            for key in keys:
                before, now = self._known.get(key), _account(self._mirror.entries.get(key))
                self._remember(key, now)
                if before != now:
                    changed |= {each.account_id for each in (before, now) if each}
            return frozenset(changed)

    async def park(
        self, account_id: str, *, version: int, event_id: str, kind: str, reason: str
    ) -> ParkedAccount:
        """Park it, or note that another attempt failed: keeps `since`, clears `retry`."""

        def parked(known: ParkedAccount | None) -> ParkedAccount:
            return ParkedAccount(
                account_id,
                version,
                _text(event_id),
                _text(kind),
                _text(reason),
                since=known.since if known else moment(time.time()),
                attempts=known.attempts + 1 if known else 1,
                retry=False,
                revision=0,
            )

        now = await self._change(account_id, parked)
        assert now is not None
        return now

    async def ask_retry(self, account_id: str) -> bool:
        """Ask the owner of its partition to try again; False: it is not parked."""
        now = await self._change(account_id, lambda known: known and replace(known, retry=True))
        return now is not None

    async def drop(self, account_id: str) -> bool:
        """Remove it from the list; False: it was not on it."""
        key = _key(account_id)
        async with self._one_by_one:
            removed = await self._bucket.remove(key)
            self._note(key, None)
            return removed

    async def _change(
        self, account_id: str, change: Callable[[ParkedAccount | None], ParkedAccount | None]
    ) -> ParkedAccount | None:
        key = _key(account_id)
        async with self._one_by_one:
            now = await self._bucket.change(key, _account, change)
            self._note(key, now)
            return now

    def _note(self, key: str, account: ParkedAccount | None) -> None:
        self._own.add(key)
        self._remember(key, account)

    def _remember(self, key: str, account: ParkedAccount | None) -> None:
        self._known.pop(key, None)
        if account is not None:
            self._known[key] = account


def _key(account_id: str) -> str:
    """The account's id, or a digest of one that can't stand in a subject; the value has the id."""
    if _TOKEN.fullmatch(account_id):
        return account_id
    return "=" + hashlib.sha256(account_id.encode(errors="replace")).hexdigest()


def _account(entry: KeyValueEntry | None) -> ParkedAccount | None:
    """The account in an entry; None if there is none or it is invalid: written by hand."""
    if entry is None:
        return None
    try:
        account = _CHECKED.validate_python({**entry.value, "revision": entry.revision})
    except ValidationError as error:
        fault = error.errors()[0]
        log.warning("parked/%s is skipped: %s: %s", entry.key, fault["loc"], fault["msg"])
        return None
    if _key(account.account_id) != entry.key:
        log.warning("parked/%s is skipped: it is about %.64r", entry.key, account.account_id)
        return None
    return account


def _text(text: object) -> str:
    """Poison may hold anything: as text, of bounded length, that JSON can carry."""
    return str(text)[:LONGEST].encode(errors="replace").decode()
