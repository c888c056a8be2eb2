"""The correlation id of the current request: the client's `X-Correlation-ID`, or a new one."""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_log import AccessLogger

from api.http.operations import Header
from pipeline.model.ulids import new_ulid
from pipeline.support import correlation
from pipeline.support.correlation import LONGEST
from pipeline.support.http_server import CORRELATION

HEADER: Final = CORRELATION

DESCRIBED: Final = Header(
    HEADER,
    "What the log, the events and the answer know the request by; a new one unless it is given,"
    " in printable ASCII.",
    {"type": "string", "maxLength": LONGEST},
)


def current() -> str:
    """The id of the request that this task serves; outside of a request, a new id."""
    return correlation.current() or new_ulid()


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the id for the tasks of this request, and in the response."""
    given = request.headers.get(HEADER, "")
    chosen = given if _acceptable(given) else new_ulid()
    # aiohttp runs each request in a context of its own, so the id need not be reset.
    correlation.serve(chosen)
    response = await handler(request)
    if not response.prepared:
        response.headers[HEADER] = chosen
    return response


class Access(AccessLogger):
    """Logs each request with its correlation id. aiohttp logs when the request is over."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        with correlation.serving(response.headers.get(HEADER)):
            super().log(request, response, time)


def _acceptable(given: str) -> bool:
    """Whether it is short and printable: it is stored in every event and log line."""
    return 0 < len(given) <= LONGEST and given.isascii() and given.isprintable()
