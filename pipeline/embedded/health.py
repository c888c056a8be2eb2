"""Checks the health of the bank's processes over the network, for `bank status` and `bank up`."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from pipeline.embedded.process_registry import Process, read_processes
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.support.server_answers import SILENCE

WELL: Final = "ok"
_SECONDS: Final = 3.0


def well(health: str) -> bool:
    """Whether it begins with `ok`: warnings may follow."""
    return health.partition(";")[0] == WELL


async def health(process: Process) -> str:
    """`ok`, with warnings, or what is wrong. One without an address is healthy while it runs."""
    if not process.address:
        return WELL
    if process.role in SERVER_BINARIES:
        return await _server(process)
    return await ready(process.address)


async def ready(address: str) -> str:
    """The answer of a role's `/readyz`: `ok`, with its warnings, or what the role lacks."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{address}/readyz") as answer,
        ):
            said = await answer.json(content_type=None)
            if answer.status == 200:
                return "; ".join([WELL, *said.get("warnings", [])])
            return str(said.get("detail", answer.status))
    except (aiohttp.ClientError, ValueError, TimeoutError):
        return SILENCE


async def _server(process: Process) -> str:
    binary, parts = SERVER_BINARIES[process.role], urlsplit(process.address)
    fault = await binary.fault(parts.hostname or "127.0.0.1", parts.port or binary.port)
    return fault or WELL


async def all_health(processes: list[Process]) -> list[str]:
    """The health of each process, checked concurrently."""
    return await asyncio.gather(*map(health, processes))


async def unwell(data_dir: Path, roles: Collection[str]) -> dict[str, str]:
    """The roles of a data folder that are not healthy, with what is wrong with each."""
    running = [process for process in read_processes(data_dir) if process.role in roles]
    found = dict.fromkeys(roles, "does not run")
    found |= zip((process.role for process in running), await all_health(running), strict=True)
    return {role: health for role, health in found.items() if not well(health)}
