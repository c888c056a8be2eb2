"""Creates the client of Elasticsearch as the settings say."""

from typing import Any

from elasticsearch import AsyncElasticsearch

from pipeline.support.access import ServerAccess


def client(at: ServerAccess | str, **options: Any) -> AsyncElasticsearch:
    """A client that connects when it is first used; `options` are the driver's."""
    access = ServerAccess.of(at)
    if access.token:
        options["api_key"] = access.token
    elif access.password:
        options["basic_auth"] = (access.user, access.password)
    if access.tls:
        options["ssl_context"] = access.context()
    return AsyncElasticsearch(access.url, **options)
