"""Without keys, a page of another site must not use a browser on this machine as its hands.

Nothing here goes by cookies, so with keys there is nothing that a browser would add by itself.
Without them, to be on this machine is all it takes, and so is every page that is open in a browser
on it. Bodies must be JSON and say so, which no page may send elsewhere unasked; but a few commands
have no body, and a name of another site's own can be turned into this machine's address meanwhile.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.problems import Problem
from api.security.access import access_of

_OURS: Final = frozenset({"same-origin", "none"})
_UNTURNABLE: Final = re.compile(r"(\[[0-9a-f:.]+\]|[0-9.]+|localhost)?(:[0-9]+)?", re.IGNORECASE)


@web.middleware
async def same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problem 403 for what a browser sends for another site, as it says itself."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = site in _OURS if site else not origin or urlsplit(origin).netloc == request.host
    # Links from elsewhere may lead to the pages, which are everybody's.
    if not ours and access_of(request.match_info.handler).roles is not None:
        raise Problem(403, "cross-site", "A page of another site has sent this.")
    return await handler(request)


@web.middleware
async def by_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problem 403 unless this machine is called `localhost`, or by its address."""
    if not _UNTURNABLE.fullmatch(request.headers.get("Host", "")):
        raise Problem(403, "cross-site", "Without keys, call this machine localhost.")
    return await handler(request)
