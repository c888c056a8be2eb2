"""Creates the client of Elasticsearch as the settings say."""

from typing import Any, Final

from elastic_transport import AiohttpHttpNode
from elasticsearch import AsyncElasticsearch

from pipeline.support.access import ServerAccess

_UNFIT: Final = (502, 503, 504)
"""A node without a master, or a proxy without a node."""


class Node(AiohttpHttpNode):
    """Keeps no connection to a server that is unfit, and resolves the name anew.

    Such a server answers with an error each time and keeps the connection, although the name may
    lead to another one by now. After an answer of that kind each request closes its connection,
    until one is answered otherwise.
    """

    _doubted = False

    async def perform_request(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if self._doubted:
            options["headers"] = {**(options.get("headers") or {}), "connection": "close"}
        answer = await super().perform_request(*args, **options)
        self._doubted = answer.meta.status in _UNFIT
        return answer


def client(at: ServerAccess | str, **options: Any) -> AsyncElasticsearch:
    """A client that connects when it is first used; `options` are the driver's."""
    access = ServerAccess.of(at)
    if access.token:
        options["api_key"] = access.token
    elif access.password:
        options["basic_auth"] = (access.user, access.password)
    if access.tls:
        options["ssl_context"] = access.context()
    return AsyncElasticsearch(access.url, node_class=Node, **options)
