"""Refuses requests by their heads, before anything of them is parsed or their body is read."""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.problems import Problem

MAX_HEAD: Final = 16 * 1024
"""Bytes of all header lines together."""


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problem 431 for a head that is too large, and 415 for a body with any encoding."""
    if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_HEAD:
        raise Problem(431, "head-too-large", f"All header lines may have {MAX_HEAD} bytes.")
    encodings = ",".join(request.headers.getall("Content-Encoding", ())).split(",")
    if any(each.strip().lower() not in ("", "identity") for each in encodings):
        raise Problem(
            415,
            "unsupported-encoding",
            "The body must come as it is, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    return await handler(request)
