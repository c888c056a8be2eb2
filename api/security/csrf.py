"""CSRF protection, needed only without keys: a page of another site must not send commands by a
browser on this machine.

The services use no cookies, so with keys a browser adds no credentials by itself. Without keys
every process on this machine may send commands, and so could every page open in a browser on it.
Bodies must be JSON, which a page can't send to another site without a preflight; but a few commands
have no body, and another site's host name can be rebound to this machine's address (DNS rebinding).

Old browsers, and all where the service is called by `http` and not as localhost, send no
`Sec-Fetch-…`. There a page of another site is known by `Origin`, `Referer`, or what its forms send.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from api.http.operations import operation_of
from api.http.problems import Check, Problem
from api.security.access import access_of
from pipeline.support.listening import AllowedHosts

_SAME_SITE: Final = frozenset({"same-origin", "none"})
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_AHEAD: Final = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_TYPED: Final = "__typed__"

H = TypeVar("H", bound=Callable[..., Any])


def typed(handler: H) -> H:
    """Marks a GET that changes something, for people who type it into the address bar."""
    setattr(handler, _TYPED, True)
    return handler


def same_site(request: web.Request) -> None:
    """Problem 403 for a request that a browser sends for a page of another site, by its headers."""
    # Links of other sites may lead to the routes that are open to all.
    if access_of(request.match_info.handler).roles is not None:
        if not _of_same_site(request):
            raise Problem(403, "cross-site", "A page of another site has sent this.")
        if hasattr(request.match_info.handler, _TYPED) and not _is_typed(request):
            raise Problem(403, "cross-site", "A page may not embed this; send a POST.")


def by_host(hosts: AllowedHosts) -> Check:
    """Problem 403 unless the client calls the service by a name that no other site can have."""

    def check(request: web.Request) -> None:
        if not hosts.admit(request):
            raise Problem(403, "cross-site", hosts.WHY)

    return check


def _of_same_site(request: web.Request) -> bool:
    headers = request.headers
    if site := headers.get("Sec-Fetch-Site"):
        return site in _SAME_SITE
    if origin := headers.get("Origin"):
        return _authority(origin) == request.host
    if (referer := headers.get("Referer")) and _authority(referer) != request.host:
        return False
    # A body that is read is JSON, which no form sends.
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return request.method in ("GET", "HEAD") or kind not in _FORMS or _reads_body(request)


def _reads_body(request: web.Request) -> bool:
    operation = operation_of(request.match_info.handler)
    if operation is None or operation.body is None:
        return False
    return operation.body_required or request.can_read_body


def _is_typed(request: web.Request) -> bool:
    """Whether a person or a tool asks for it, and not a page that embeds it or a browser ahead of
    its user."""
    headers = request.headers
    if any(headers.get(name) for name in _AHEAD):
        return False
    if "Sec-Fetch-Site" in headers:
        mode, target = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
        return (mode, target) == ("navigate", "document")
    if "Referer" in headers or "Origin" in headers:
        return False
    accepted = headers.get("Accept", "").lower()
    by_browser = headers.get("User-Agent", "").startswith("Mozilla/")
    # Browsers accept `*/*` for scripts and media, tools for all that they ask.
    return accepted.startswith("text/html") if by_browser else not accepted.startswith("image/")


def _authority(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:  # a bracket that is not closed
        return None
