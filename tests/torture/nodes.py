"""Questions to a server that may be a list of nodes with commas between: any that answers."""

from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import nats
import orjson
from nats.aio.client import Client

from pipeline.embedded.server_binaries import SERVER_BINARIES

_NATS: Final = SERVER_BINARIES["nats"]
_ANSWER: Final = aiohttp.ClientTimeout(total=10)
_NEXT: Final = 2.0
"""Seconds that a node has, where another one may be asked."""


async def asked(method: str, url: str, **options: Any) -> tuple[int, Any]:
    """Status and JSON of an HTTP request."""
    async with (
        aiohttp.ClientSession(timeout=_ANSWER) as http,
        http.request(method, url, **options) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def one_that_answers(url: str) -> str:
    """The first node of Elasticsearch that answers and has a master; else the last one."""
    *others, last = url.split(",")
    timeout = aiohttp.ClientTimeout(total=_NEXT)
    for node in others:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(node, timeout=timeout) as http,
                http.get("/_alias") as answer,
            ):
                if answer.status == 200:
                    return node
    return last


async def connected(url: str) -> Client:
    """A connection to the first nats-server that answers. It is not made anew when it breaks."""
    *others, last = url.split(",")
    for server in others:
        at = urlsplit(server)
        if await _NATS.healthy(str(at.hostname), int(at.port or _NATS.port)):
            return await _connected(server)
    return await _connected(last)


async def api(client: Client, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of JetStream; RuntimeError for a refusal."""
    reply = await client.request(f"$JS.API.{verb}", orjson.dumps(body or {}), timeout=3)
    answer: dict[str, Any] = orjson.loads(reply.data)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


async def _connected(url: str) -> Client:
    return await nats.connect(url, connect_timeout=2, allow_reconnect=False, error_cb=_ignored)


async def _ignored(_: Exception) -> None:
    """Errors of a connection for one question are told by the question."""
