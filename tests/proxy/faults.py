"""Faults of any HTTP server: it answers with an error, is slow, or holds what it was sent."""

import asyncio
import json
import random
from collections.abc import Callable

from multidict import CIMultiDict

from tests.proxy.http import Forward, Reply, Request

Match = Callable[[Request], bool]


def everything(_: Request) -> bool:
    return True


def answer(status: int, body: object) -> Reply:
    """An answer in JSON, as Elasticsearch would give it."""
    headers = CIMultiDict(
        {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
    )
    return Reply(status, headers, json.dumps(body).encode())


class Answering:
    """Answers a share of the requests that match with that status; they do not go through."""

    def __init__(
        self, status: int, share: float = 1.0, *, seed: int = 1, match: Match = everything
    ) -> None:
        self.status, self.share, self.match = status, share, match
        self.count = 0
        self._chance = random.Random(seed)

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if not self.match(request) or self._chance.random() >= self.share:
            return await forward(request)
        self.count += 1
        error = {"type": "es_rejected_execution_exception", "reason": "a fault of the proxy"}
        return answer(self.status, {"error": error, "status": self.status})


class Slow:
    """Keeps each request that matches for so many seconds before it goes through."""

    def __init__(self, seconds: float, *, match: Match = everything) -> None:
        self.seconds, self.match = seconds, match

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if self.match(request):
            await asyncio.sleep(self.seconds)
        return await forward(request)


class Held:
    """Holds every request that matches, or with `after` its answer, until it is released.

    What comes after the release passes. `requests` are those that were held, `replies` what the
    server answered to them, each as soon as it is known.
    """

    def __init__(self, match: Match, *, after: bool = False) -> None:
        self.match, self.after = match, after
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self._caught, self._released, self._answered = (asyncio.Event() for _ in range(3))

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if self._released.is_set() or not self.match(request):
            return await forward(request)
        self.requests.append(request)
        if not self.after:
            self._caught.set()
            await self._released.wait()
        reply = await forward(request)
        self.replies.append(reply)
        if len(self.replies) == len(self.requests):
            self._answered.set()
        if self.after:
            self._caught.set()
            await self._released.wait()
        return reply

    async def caught(self, seconds: float = 30) -> None:
        """Wait until one is held: before it has reached the server, or its answer."""
        async with asyncio.timeout(seconds):
            await self._caught.wait()

    async def release(self, seconds: float = 30) -> list[Reply]:
        """Let all go; returns what the server has answered to them."""
        self._released.set()
        async with asyncio.timeout(seconds):
            while len(self.replies) < len(self.requests):
                self._answered.clear()
                await self._answered.wait()
        return self.replies


class TooLarge:
    """Answers 413 to every request with a body of more than so many bytes, or breaks off."""

    def __init__(self, most: int, *, status: int = 413, reset: bool = False) -> None:
        self.most, self.status, self.reset = most, status, reset
        self.count = 0

    async def __call__(self, request: Request, forward: Forward) -> Reply:
        if len(request.body) <= self.most:
            return await forward(request)
        self.count += 1
        if self.reset:
            raise ConnectionResetError
        page = b"<html><center><h1>Request Entity Too Large</h1></center></html>"
        return Reply(self.status, CIMultiDict({"Content-Type": "text/html"}), page)
