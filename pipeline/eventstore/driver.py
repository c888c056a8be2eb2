"""The MongoDB client. Only this module imports Motor.

Motor is at its end of life; PyMongo's `AsyncMongoClient` is its successor (docs/deploy.md).
"""

from typing import Any, TypeAlias

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
)

from pipeline.support.access import ServerAccess

Document: TypeAlias = dict[str, Any]
Client: TypeAlias = "AsyncIOMotorClient[Document]"
Collection: TypeAlias = AsyncIOMotorCollection
Session: TypeAlias = AsyncIOMotorClientSession


def client(at: ServerAccess | str, **options: Any) -> Client:
    """A client that connects on first use; `options` are the driver's."""
    access = ServerAccess.of(at)
    credentials = {"username": access.user, "password": access.password}
    if access.ca_file:
        credentials["tlsCAFile"] = str(access.ca_file)
    if access.cert_file:
        credentials["tlsCertificateKeyFile"] = str(access.cert_file)
    options |= {name: value for name, value in credentials.items() if value}
    if access.ca_file or access.cert_file:
        options["tls"] = True
    return AsyncIOMotorClient(access.url, **options)
