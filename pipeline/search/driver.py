"""Creates the client of Elasticsearch as the settings say."""

from functools import partial
from typing import Any, Final

from elastic_transport import AsyncTransport, NodePool
from elastic_transport.client_utils import url_to_node_config
from elasticsearch import AsyncElasticsearch

from pipeline.search.nodes import UNFIT, BoundedTransport, Node, Nodes, WatchedNode
from pipeline.support.access import ServerAccess

_DEAD_SECONDS: Final = 10.0
_LONGEST_DEAD_SECONDS: Final = 300.0
"""A node that failed again and again is left alone for so long while others answer."""


def client(
    at: ServerAccess | str, *, timeout: float, repeat: bool, **options: Any
) -> AsyncElasticsearch:
    """A client that connects when it is first used; `options` are the driver's.

    It takes the nodes of the URL in turns, and leaves out those that fail. `repeat`: whether each
    request may go to the next node when one does not answer it within half of the `timeout`, in
    seconds, which it may take in all. Else the request fails, and the next one goes elsewhere.
    """
    access = ServerAccess.of(at)
    if access.token:
        options["api_key"] = access.token
    elif access.password:
        options["basic_auth"] = (access.user, access.password)
    if access.tls:
        options["ssl_context"] = access.context()
    # Without the port of the scheme the driver refuses `http://host`.
    found = [url_to_node_config(each, use_default_ports_for_scheme=True) for each in access.urls]
    nodes = list(dict.fromkeys(found))  # of a node that is listed twice it refuses the list
    several = len(nodes) > 1
    tries = len(nodes) if repeat else 1
    return AsyncElasticsearch(
        nodes,
        node_class=WatchedNode if several else Node,
        node_pool_class=Nodes if several else NodePool,
        # Two halves are the whole. Of one or two nodes each has its time-out to itself, so that the
        # pool learns which one failed.
        transport_class=partial(BoundedTransport, timeout) if tries > 2 else AsyncTransport,  # type: ignore[arg-type]
        dead_node_backoff_factor=_DEAD_SECONDS,
        max_dead_node_backoff=_LONGEST_DEAD_SECONDS,
        # Not a smaller part where there are more: then no node had the time for a slow request.
        request_timeout=timeout / min(tries, 2),
        max_retries=tries - 1,
        retry_on_status=UNFIT,
        retry_on_timeout=True,
        **options,
    )
