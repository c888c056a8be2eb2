"""Refuses requests by their heads, before anything of them is parsed or their body is read."""

from itertools import chain
from typing import Final

from aiohttp import web
from aiohttp.hdrs import CONTENT_ENCODING

from api.http.problems import Problem

MAX_HEAD: Final = 16 * 1024
"""Bytes of all header lines together."""


def check(request: web.Request) -> None:
    """Problem 431 for a head that is too large, and 415 for a body with any encoding."""
    if sum(map(len, chain.from_iterable(request.raw_headers))) > MAX_HEAD:
        raise Problem(431, "head-too-large", f"All header lines may have {MAX_HEAD} bytes.")
    if CONTENT_ENCODING not in request.headers:
        return
    encodings = ",".join(request.headers.getall(CONTENT_ENCODING)).split(",")
    if any(each.strip().lower() not in ("", "identity") for each in encodings):
        raise Problem(
            415,
            "unsupported-encoding",
            "The body must come as it is, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
