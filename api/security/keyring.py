"""A service's copy of the API keys, which follows the KV bucket: no request waits for NATS."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from nats.errors import Error as NatsError

from api.http.problems import Problem, unavailable
from pipeline.messaging import JetStream, JetStreamError, ServerTooOld
from pipeline.messaging.kv import Mirror
from pipeline.operations import keys
from pipeline.operations.keys import Key
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.readiness import NotReady
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

EVERY: Final = 0.25
"""Seconds between two reads of the bucket: after that a revoked key is refused."""

_ASKING: Final = {"WWW-Authenticate": 'Bearer realm="bank"'}
_REFUSING: Final = {"WWW-Authenticate": 'Bearer realm="bank", error="invalid_token"'}
_UNKNOWN: Final = "There is no such key, or it was revoked."
_NO_KEY: Final = keys.new(keys.Role.VIEWER)[0]


class Keyring:
    """The keys as they were read last. Every request is refused until the first read succeeded."""

    def __init__(self, settings: Settings) -> None:
        self._nats, self._longest = settings.nats, settings.keys_max_age_seconds
        self._keys: dict[str, Key] = {}
        self._read_at: float | None = None

    def holder(self, request: web.Request) -> Key:
        """The key of the request; problem 401, or 503 `keys-unavailable`."""
        self._require_known()
        given = request.headers.getall("Authorization", [])
        if len(given) > 1:
            raise Problem(400, "invalid-authorization", "Send one header Authorization.")
        scheme, _, token = "".join(given).partition(" ")
        if not scheme:
            detail = "This takes a key: Authorization: Bearer bank_…"
            raise Problem(401, "key-required", detail, headers=_ASKING)
        named = keys.parted(token.strip()) if scheme.lower() == "bearer" else None
        key = self._keys.get(named[0]) if named else None
        # One answer to all faults: only who has the secret may learn that the key has expired. And
        # one work: a secret is hashed and compared also where there is no such key.
        if named is None or not (key or _NO_KEY).opened_by(named[1]) or key is None:
            raise _refused(_UNKNOWN)
        _require_unexpired(key)
        return key

    def require(self, key: Key) -> None:
        """Problem 401 or 503 unless the key, as it was, would still be let in."""
        self._require_known()
        if self._keys.get(key.id) != key:
            raise _refused(_UNKNOWN)
        _require_unexpired(key)

    async def ping(self) -> None:
        """Raise `NotReady` unless the keys were read lately."""
        if not self._known():
            raise NotReady("the keys were not read")

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Keep the copy up to date inside the block, through outages of NATS."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            await cancel_and_wait(following)

    async def _follow(self) -> None:
        js = await self._connected()
        try:
            mirror, outage = Mirror(keys.bucket(js)), Outage(log, "the keys")
            failures = (NatsError, JetStreamError, OSError)
            await outage.every(EVERY, lambda: self._refresh(mirror), failures)
        finally:
            await js.close()

    async def _connected(self) -> JetStream:
        return await Outage(log, "the keys").retry_forever(
            lambda: JetStream.patiently(self._nats, "bank keys"),
            (NatsError, ServerTooOld, OSError),
        )

    async def _refresh(self, mirror: Mirror) -> None:
        began = asyncio.get_running_loop().time()
        changed = await mirror.refresh()
        self._change(mirror, changed)
        self._read_at = began

    def _change(self, mirror: Mirror, changed: Iterable[str]) -> None:
        for key_id in changed:
            entry = mirror.entries.get(key_id)
            key = keys.key_of(entry) if entry else None
            if key is not None:
                self._keys[key_id] = key
                continue
            self._keys.pop(key_id, None)
            if entry:
                log.warning("the entry of key %r is invalid: the key is refused", key_id)

    def _known(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._read_at is not None and now - self._read_at <= self._longest

    def _require_known(self) -> None:
        if not self._known():
            raise unavailable("keys-unavailable", "The keys can't be read: nobody can be let in.")


def _require_unexpired(key: Key) -> None:
    if key.expired:
        raise _refused(f"Key {key.id} has expired.")


def _refused(detail: str) -> Problem:
    return Problem(401, "key-invalid", detail, headers=_REFUSING)
