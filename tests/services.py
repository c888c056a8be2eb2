"""What the tests of the two services share: a service to talk to, and a look at its answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web_runner import BaseRunner

from api.http.problem_types import PROBLEM_TYPES
from api.server import CONNECTIONS
from pipeline.support.http_server import Runner
from tests.harness import eventually

Client = TestClient[web.Request, web.Application]

NOBODY = "01JD0000000000000000000000"
"""A sound id that no account has."""


class Server(TestServer):
    """Serves an application as `bank accounts` and `bank balances` do."""

    async def _make_runner(self, **_: Any) -> BaseRunner:
        return Runner(self.app, self.app[CONNECTIONS], grace=1)


@asynccontextmanager
async def serving(app: web.Application, *, ready: bool = True) -> AsyncIterator[Client]:
    """The service on a free port, ready unless told otherwise."""
    async with TestClient(Server(app)) as client:
        if ready:
            await eventually(lambda: is_ready(client), message="ready")
        yield client


async def is_ready(client: Client) -> bool:
    async with client.get("/readyz") as answer:
        return answer.status == 200


async def problem(answer: ClientResponse, status: int, name: str) -> dict[str, Any]:
    """The problem document of an answer that must be exactly this one."""
    document: dict[str, Any] = await answer.json(content_type="application/problem+json")
    assert (answer.status, document["type"]) == (status, f"/problems/{name}"), document
    assert PROBLEM_TYPES[name].status == status
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert answer.headers["X-Correlation-ID"]
    return document
