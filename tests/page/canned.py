"""The page at a service whose answers a test makes up, without a bank: it is there at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.balances import ui

EVERY: Final = 0.25
"""Seconds between two readings."""

OWNERS: Final = ("w1", "w1", "w2", "w2")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instance(role: str, name: str, state: str = "ready", detail: str | None = None) -> Any:
    """A process of a role."""
    told = {"role": role, "name": name, "state": state, "detail": detail}
    return {**told, "since": now(), "seen": now(), "rate": 1.0}


def reading(*owners: str | None, **changes: Any) -> dict[str, Any]:
    """A reading of a bank that is well, but for the changes."""
    lag = {"lag_events": 0, "lag_seconds": 0.0, "unknown": None}
    partitions = [
        {
            "partition": number,
            "owner": owner,
            "owner_unknown": None,
            "epoch": 1,
            "position": 100,
            "parked": 0,
            **lag,
        }
        for number, owner in enumerate(owners or OWNERS)
    ]
    servers = ("mongodb", "nats", "redis", "elasticsearch")
    names = sorted({each for each in owners or OWNERS if each})
    return {
        "at": now(),
        "servers": [{"name": name, "up": True, "state": "up", "detail": None} for name in servers],
        "commands": {
            "rate": 12.0,
            "outcomes": {"accepted": 700, "insufficient-funds": 9},
            "p50_ms": 4.1,
            "p99_ms": 21.0,
            "unknown": None,
        },
        "stored": {"events": 1000, "rate": 12.0, "unknown": None},
        "forwarded": {"events": 1000, "rate": 12.0, "alarm": None, **lag},
        "projected": [
            {
                "projection": name,
                "rate": 12.0,
                "parked": 0,
                "newest_parked": [],
                "alarm": None,
                "furthest": None,
                **lag,
            }
            for name in ("balance", "statement")
        ],
        "forwarder": {"leader": "f1", "unknown": None},
        "workers": [
            {"name": name, "state": "here", "partitions": [], "seen": now()} for name in names
        ],
        "workers_unknown": None,
        "instances": [instance("accounts", "a1"), instance("forwarder", "f1")]
        + [instance("worker", name) for name in names],
        "instances_unknown": None,
        "partitions": partitions,
        "rebuild": None,
        **changes,
    }


def page_of(*data: Any, **more: Any) -> dict[str, Any]:
    return {"data": list(data), "has_more": False, **more}


class Canned:
    """What the service answers.

    `answers`: JSON by path, or a function that makes it of the request, or an HTTP status, which
    becomes a problem. `delay`: seconds before each answer. `key`: what requests must come with;
    empty: keys are off.
    """

    def __init__(self, address: str = "") -> None:
        self.address, self.key, self.delay = address, "", 0.0
        self.reading: Callable[[], dict[str, Any]] = reading
        self.hour: dict[str, Any] | None = None
        """The points of the last hour, if there are any."""
        self.answers: dict[str, Any] = {
            "/whoami": {"keys": False, "id": None, "role": None, "expires": None, "accounts": []},
            "/activity": page_of(approximate=True),
            "/rebuilds": page_of(),
            "/parked": page_of(),
            "/": page_of(),
            "/stages": page_of(minutes=5, events=0),
            "/timeline": page_of(since=None),
            "/audit": page_of(),
            "/settings": page_of(),
        }

    def has_key(self, key: str, role: str, *accounts: str) -> None:
        """From now on this key is asked for."""
        self.key = key
        who = {"keys": True, "id": "k1", "role": role, "expires": None}
        self.answers["/whoami"] = {**who, "accounts": list(accounts)}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self._lets_in(request):
            return problem(401, "key-invalid", "Key refused")
        if request.path == "/pipeline/events":
            return await self._stream(request)
        await asyncio.sleep(self.delay)
        found = self.answers.get(request.path, 404)
        told = await found(request) if callable(found) else found
        if isinstance(told, web.StreamResponse):
            return told
        return problem(told) if isinstance(told, int) else web.json_response(told)

    def _lets_in(self, request: web.Request) -> bool:
        return not self.key or request.headers.get("Authorization") == f"Bearer {self.key}"

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        if self.hour is not None:
            await answer.write(b"event: hour\ndata: " + orjson.dumps(self.hour) + b"\n\n")
        while self._lets_in(request):
            await answer.write(b"event: pipeline\ndata: " + orjson.dumps(self.reading()) + b"\n\n")
            await asyncio.sleep(EVERY)
        return answer


def problem(status: int, name: str = "not-found", title: str = "Not found") -> web.Response:
    body = {"type": f"/problems/{name}", "title": title, "status": status, "detail": "It is so."}
    return web.json_response(body, status=status, content_type="application/problem+json")


@asynccontextmanager
async def canned() -> AsyncIterator[Canned]:
    """The service while the block runs."""
    service = Canned()
    app = web.Application()
    app[ui.FILES] = ui.read()
    app.add_routes(ui.routes)
    app.router.add_route("*", "/{path:.*}", service.answer)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        service.address = str(server.make_url("")).rstrip("/")
        yield service
