"""The correlation id of the request under way: the client's `X-Correlation-ID`, or a new one."""

from contextvars import ContextVar
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from ulid import ULID

from api.operations import Header

HEADER: Final = "X-Correlation-ID"
_LONGEST: Final = 100

DESCRIBED: Final = Header(
    HEADER,
    "What the log, the events and the answer know the request by; a new one unless it is given,"
    " in printable ASCII.",
    {"type": "string", "maxLength": _LONGEST},
)

_current: ContextVar[str] = ContextVar("correlation_id")


def current() -> str:
    """The id of the request that this task serves; outside of one, a new id."""
    return _current.get(None) or str(ULID())


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the id for all that serves this request, and show it in the response."""
    given = request.headers.get(HEADER, "")
    chosen = given if _acceptable(given) else str(ULID())
    # aiohttp runs each request in a context of its own, so nothing needs to be put back.
    _current.set(chosen)
    response = await handler(request)
    if not response.prepared:
        response.headers[HEADER] = chosen
    return response


def _acceptable(given: str) -> bool:
    """Short and printable, for it goes into every event and log line."""
    return 0 < len(given) <= _LONGEST and given.isascii() and given.isprintable()
