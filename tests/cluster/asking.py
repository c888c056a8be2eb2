"""What people ask of a bank on clusters: a command, and a role's readiness."""

from typing import Any

import aiohttp

from pipeline.support.settings import Settings
from tests.harness import Role


async def bank(settings: Settings, *words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    async with Role(settings, "bank", *words) as command:
        return await command.wait(90), command.log()


async def readiness(port: int) -> dict[str, Any]:
    """What `/readyz` says, and the status as `http`."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        said: dict[str, Any] = await answer.json()
        return {"http": answer.status, **said}
