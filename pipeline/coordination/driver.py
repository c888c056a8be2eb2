"""The client of Redis."""

from typing import Any

import redis.asyncio

from pipeline.support.access import ServerAccess


def client(at: ServerAccess | str, **options: Any) -> redis.asyncio.Redis:
    """The driver's client, which connects when it is first used."""
    access = ServerAccess.of(at)
    wanted: dict[str, Any] = {"username": access.user, "password": access.password}
    if access.tls:
        wanted["ssl_cert_reqs"], wanted["ssl_check_hostname"] = "required", True
        wanted["ssl_ca_certs"] = access.ca_file
        wanted["ssl_certfile"] = access.cert_file
        wanted["ssl_keyfile"] = access.key_file or access.cert_file
    options |= {name: value for name, value in wanted.items() if value}
    return redis.asyncio.Redis.from_url(access.url, **options)
