"""CSRF protection, needed only without keys: a page of another site must not send commands by a
browser on this machine.

The services use no cookies, so with keys a browser adds no credentials by itself. Without keys
every process on this machine may send commands, and so could every page open in a browser on it.
Bodies must be JSON, which a page can't send to another site without a preflight; but a few commands
have no body, and another site's host name can be rebound to this machine's address (DNS rebinding).
"""

import re
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.problems import Problem
from api.security.access import access_of

_SAME_SITE: Final = frozenset({"same-origin", "none"})
_NOT_REBINDABLE: Final = re.compile(
    r"(\[[0-9a-f:.]+\]|[0-9.]+|localhost)?(:[0-9]+)?", re.IGNORECASE
)


@web.middleware
async def same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problem 403 for a request that a browser sends for a page of another site, by its headers."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = site in _SAME_SITE if site else not origin or urlsplit(origin).netloc == request.host
    # Links of other sites may lead to the routes that are open to all.
    if not ours and access_of(request.match_info.handler).roles is not None:
        raise Problem(403, "cross-site", "A page of another site has sent this.")
    return await handler(request)


@web.middleware
async def by_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problem 403 unless the host is `localhost` or an address: those can't be rebound."""
    if not _NOT_REBINDABLE.fullmatch(request.headers.get("Host", "")):
        raise Problem(403, "cross-site", "Without keys, call this machine localhost.")
    return await handler(request)
