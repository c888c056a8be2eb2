"""JSON answers."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def reply(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The document as JSON."""
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type="application/json",
        headers=headers,
    )
