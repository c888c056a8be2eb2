"""The client of Redis."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel

from pipeline.support.access import ServerAccess

_SENTINEL_PORT: Final = 26379
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")


def client(at: ServerAccess | str, **options: Any) -> redis.asyncio.Redis:
    """The driver's client, which connects when it is first used.

    With `redis+sentinel://…` it asks the sentinels for the primary at each connection.
    """
    access = ServerAccess.of(at)
    if access.tls:
        wanted: dict[str, Any] = {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": access.ca_file,
            "ssl_certfile": access.cert_file,
            "ssl_keyfile": access.key_file or access.cert_file,
        }
        options |= {name: value for name, value in wanted.items() if value}
    ours: dict[str, Any] = {"username": access.user, "password": access.password}
    credentials = {name: value for name, value in ours.items() if value}
    if access.scheme.endswith("+sentinel"):
        return _primary(access, options, credentials)
    return redis.asyncio.Redis.from_url(access.url, **options, **credentials)


class _Sentinels(Sentinel):
    """Asks each of them first in its turn.

    redis-py asks the one first that has answered last, and goes on with its answer: also one that
    is cut off together with the old primary, or that is no sentinel.
    """

    async def discover_master(self, service_name: str) -> Any:
        # redis-py moves sentinels in the list that it goes through: two who do so at the same time
        # would put one of them in another's place. Each has a list of its own.
        ours = copy(self)
        ours.sentinels = [*self.sentinels]
        self.sentinels.append(self.sentinels.pop(0))
        return await super(_Sentinels, ours).discover_master(service_name)


class _Primary(redis.asyncio.Redis):
    """The client of the primary, which closes those of the sentinels with it."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]


def _primary(
    access: ServerAccess, options: Mapping[str, Any], credentials: Mapping[str, Any]
) -> redis.asyncio.Redis:
    first = urlsplit(access.urls[0])
    name, _, db = first.path.strip("/").partition("/")
    user, at, _ = first.netloc.rpartition("@")
    found: dict[str, Any] = {**parse_url(f"redis://{user}{at}-/{db}?{first.query}")}
    del found["host"]
    theirs = {each.removeprefix("sentinel_"): found.pop(each, None) for each in _OF_SENTINELS}
    if access.tls:
        options = {**options, "ssl": True}
    hosts = [urlsplit(each) for each in access.urls]
    # `options` for the sentinels, too: without them the driver would ask one that hangs for longer
    # than a lease lasts.
    sentinels = _Sentinels(  # type: ignore[no-untyped-call]
        [(each.hostname, each.port or _SENTINEL_PORT) for each in hosts],
        sentinel_kwargs={**options, **theirs},
    )
    made: redis.asyncio.Redis = sentinels.master_for(
        name, redis_class=_Primary, **{**found, **options, **credentials}
    )
    return made
