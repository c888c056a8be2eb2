"""Proxies between a role and a server that break what passes: by the byte (TCP) or the request."""

from tests.proxy.bulk import ItemErrors, busy_items, refused, statuses, writes_to
from tests.proxy.faults import Answering, Held, Slow, TooLarge, everything
from tests.proxy.http import Fault, Forward, HttpProxy, Reply, Request
from tests.proxy.tcp import TcpProxy

__all__ = [
    "Answering",
    "Fault",
    "Forward",
    "Held",
    "HttpProxy",
    "ItemErrors",
    "Reply",
    "Request",
    "Slow",
    "TcpProxy",
    "TooLarge",
    "busy_items",
    "everything",
    "refused",
    "statuses",
    "writes_to",
]
