"""The MongoDB client. Only this module imports Motor.

Motor is at its end of life; PyMongo's `AsyncMongoClient` is its successor (docs/deploy.md).
"""

import weakref
from typing import Any, TypeAlias

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
)
from pymongo import MongoClient
from pymongo.monitoring import (
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerListener,
    ServerOpeningEvent,
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
    demotion = Demotion()
    made: Client = AsyncIOMotorClient(access.url, event_listeners=[demotion], **options)
    demotion.watch(made.delegate)
    return made


class Demotion(ServerListener):
    """Drops the connections to a server that is no primary (any more), if it is the only one.

    With `directConnection=true` the driver uses whatever answers at the URL's address. It keeps its
    connections when a server answers that it is no primary, although the name may lead to the new
    one by now; and such a server still answers reads. Without that option the driver knows all
    members, and finds the primary itself.
    """

    def __init__(self) -> None:
        self._client: weakref.ref[MongoClient[Document]] | None = None

    def watch(self, client: "MongoClient[Document]") -> None:
        self._client = weakref.ref(client)

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        found, client = event.new_description, self._client() if self._client else None
        if client is None or not found.is_server_type_known or found.is_writable:
            return
        topology = client._topology
        if topology.description.topology_type_name == "Single":
            for server in list(topology._servers.values()):
                server.pool.reset()
                server._monitor.cancel_check()
                server._monitor._reset_connection()

    def opened(self, event: ServerOpeningEvent) -> None:
        """Of no interest."""

    def closed(self, event: ServerClosedEvent) -> None:
        """Of no interest."""
