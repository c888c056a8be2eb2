"""A process's copy of the API keys, which follows the KV bucket: no request waits for NATS."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from nats.errors import Error as NatsError

from pipeline.messaging import JetStream, JetStreamError, ServerTooOld
from pipeline.messaging.kv import Mirror
from pipeline.operations import keys
from pipeline.operations.keys import Key, Role
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

EVERY: Final = 0.25
"""Seconds between two reads of the bucket: after that a revoked key is refused."""
OBSERVERS: Final = (Role.VIEWER, Role.OPERATOR)
"""The roles that may read the status of the pipeline."""

_NO_KEY: Final = keys.new(Role.VIEWER)[0]


class FollowedKeys:
    """The keys as they were read last."""

    def __init__(self, settings: Settings) -> None:
        self._nats, self._longest = settings.nats, settings.keys_max_age_seconds
        self._keys: dict[str, Key] = {}
        self._read_at: float | None = None

    def known(self) -> bool:
        """Whether the keys were read, and lately."""
        now = asyncio.get_running_loop().time()
        return self._read_at is not None and now - self._read_at <= self._longest

    def opened(self, authorization: str) -> Key | None:
        """The key whose secret is in this header, also one that has expired."""
        scheme, _, token = authorization.partition(" ")
        named = keys.parted(token.strip()) if scheme.lower() == "bearer" else None
        if named is None:
            return None
        key = self._keys.get(named[0])
        # One work for all faults: a secret is hashed and compared also where there is no such key.
        return key if (key or _NO_KEY).opened_by(named[1]) else None

    def has(self, key: Key) -> bool:
        """Whether the key is there, and was not changed."""
        return self._keys.get(key.id) == key

    def refusal(self, authorization: str) -> int | None:
        """The HTTP status of a refusal to read a role's metrics; None if the sender may."""
        if not self.known():
            return 503
        key = self.opened(authorization)
        if key is None or key.expired:
            return 401
        return None if key.role in OBSERVERS else 403

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Keep the copy up to date inside the block, through outages of NATS."""
        async with running(self._follow()):
            yield

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


@asynccontextmanager
async def followed_where_on(settings: Settings) -> AsyncIterator[FollowedKeys | None]:
    """The keys inside the block; None if the settings ask for none."""
    if settings.keys != "on":
        yield None
        return
    keys_now = FollowedKeys(settings)
    async with keys_now.followed():
        yield keys_now
