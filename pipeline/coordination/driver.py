"""The client of Redis."""

from typing import Any

import redis.asyncio

from pipeline.support.access import ServerAccess


def client(at: ServerAccess | str, **options: Any) -> redis.asyncio.Redis:
    """A client that connects when it is first used; `options` are the driver's."""
    access = ServerAccess.of(at)
    told: dict[str, Any] = {"username": access.user, "password": access.password}
    if access.tls:
        told["ssl_cert_reqs"], told["ssl_check_hostname"] = "required", True
        told["ssl_ca_certs"] = access.ca_file
        told["ssl_certfile"] = access.cert_file
        told["ssl_keyfile"] = access.key_file or access.cert_file
    options |= {name: value for name, value in told.items() if value}
    return redis.asyncio.Redis.from_url(access.url, **options)
