"""A span for each request, in the trace of its W3C `traceparent`, if spans are on."""

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from api.http.metrics import METHODS, OTHER, route_of
from pipeline.support import tracing


def middlewares() -> Iterable[Middleware]:
    """Empty if spans are off, so that a request pays nothing for them."""
    return [_middleware] if tracing.on() else []


@web.middleware
async def _middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    route = route_of(request)
    method = request.method if request.method in METHODS else "HTTP"
    with tracing.request(method, "" if route == OTHER else route, request.headers) as span:
        response = await handler(request)
        span.answered(response.status)
    return response
