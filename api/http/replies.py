"""JSON responses."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def reply(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The document `as_json`."""
    return web.Response(
        status=status, body=as_json(document), content_type="application/json", headers=headers
    )


def as_json(document: Any) -> bytes:
    """Times are RFC 3339; values that JSON does not know become text."""
    return orjson.dumps(document, default=str, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
