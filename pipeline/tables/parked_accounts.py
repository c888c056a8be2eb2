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
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry, Mirror, Overtaken
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

    def __init__(self, js: JetStream, projection: Projection, *, replicas: int = 1) -> None:
        self.js = js
        self._bucket = Bucket(js, projection.named("parked"), replicas=replicas)
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

    async def refresh(self) -> frozenset[str]:
        """Read what others changed; returns the account ids whose entries changed or are gone."""
        async with self._one_by_one:
            keys = await self._mirror.refresh() | self._own
            self._own.clear()
            changed: set[str] = set()
            for key in keys:
                entry = self._mirror.entries.get(key)
                before, now = self._known.get(key), _account(entry) if entry else None
                self._know(key, now)
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
            while True:
                entry = await self._bucket.get(key)
                if entry is None:
                    self._note(key, None)
                    return False
                try:
                    await self._bucket.delete(key, expected=entry.revision)
                except Overtaken:
                    continue
                self._note(key, None)
                return True

    async def _change(
        self, account_id: str, change: Callable[[ParkedAccount | None], ParkedAccount | None]
    ) -> ParkedAccount | None:
        """Write what `change` makes of the entry; on None of it nothing is written."""
        key = _key(account_id)
        async with self._one_by_one:
            while True:
                entry = await self._bucket.get(key)
                wanted = change(_account(entry) if entry else None)
                try:
                    if wanted is not None:
                        expected = entry.revision if entry else 0
                        revision = await self._bucket.put(key, _value(wanted), expected=expected)
                        wanted = replace(wanted, revision=revision)
                except Overtaken:
                    continue
                self._note(key, wanted)
                return wanted

    def _note(self, key: str, account: ParkedAccount | None) -> None:
        self._own.add(key)
        self._know(key, account)

    def _know(self, key: str, account: ParkedAccount | None) -> None:
        self._known.pop(key, None)
        if account is not None:
            self._known[key] = account


def _key(account_id: str) -> str:
    """The account's id, or a digest of one that can't stand in a subject; the value has the id."""
    if _TOKEN.fullmatch(account_id):
        return account_id
    return "=" + hashlib.sha256(account_id.encode(errors="replace")).hexdigest()


def _value(account: ParkedAccount) -> dict[str, Any]:
    value = asdict(account)
    del value["revision"]
    return value


def _account(entry: KeyValueEntry) -> ParkedAccount | None:
    """The account in an entry; None if it is invalid: written by hand."""
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
