"""`/livez` (the process runs) and `/readyz` (all it depends on answers), for both services."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from api.problems import unavailable
from api.replies import reply

Checks = Mapping[str, Callable[[], Awaitable[None]]]
"""For each dependency, by name, a coroutine function that raises when it does not answer."""

DEADLINE: Final = 2.0


def routes(checks: Checks) -> list[web.RouteDef]:
    """Both routes. Not ready is a 503 problem whose `missing` names each dependency that failed."""

    async def live(_: web.Request) -> web.Response:
        return reply({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        answered = await asyncio.gather(*map(_answers, checks.values()))
        missing = [name for name, fine in zip(checks, answered, strict=True) if not fine]
        if missing:
            raise unavailable("not-ready", f"No answer from {', '.join(missing)}.", missing=missing)
        return reply({"status": "ok"})

    return [web.get("/livez", live), web.get("/readyz", ready)]


async def _answers(check: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(DEADLINE):
            await check()
    except Exception:
        return False
    return True
