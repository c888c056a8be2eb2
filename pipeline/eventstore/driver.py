"""The client of MongoDB."""

from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from pipeline.support.access import ServerAccess


def client(at: ServerAccess | str, **options: Any) -> "AsyncIOMotorClient[dict[str, Any]]":
    """A client that connects when it is first used; `options` are the driver's."""
    access = ServerAccess.of(at)
    told = {"username": access.user, "password": access.password}
    if access.ca_file:
        told["tlsCAFile"] = str(access.ca_file)
    if access.cert_file:
        told["tlsCertificateKeyFile"] = str(access.cert_file)
    options |= {name: value for name, value in told.items() if value}
    if access.ca_file or access.cert_file:
        options["tls"] = True
    return AsyncIOMotorClient(access.url, **options)
