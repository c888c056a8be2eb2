"""What a run ran on: cores, memory, versions, how busy it was, and what processes used."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import orjson
import redis.asyncio

from pipeline.eventstore import driver
from pipeline.messaging import JetStream
from pipeline.search import Elastic
from pipeline.support.settings import Settings

_GIB: Final = 2**30
_PIECES: Final = 60_000
WHEELS: Final = {"mongodb": "SecantusDB", "elasticsearch": "noida-db"}
"""The servers that are not the real thing: what they are."""


def machine() -> dict[str, Any]:
    """Cores that we may use, memory in GiB, and the Python that runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "memory_gib": round(memory), "python": platform.python_version()}


def load() -> float:
    """How many processes wanted to run, on average of the last minute."""
    return round(os.getloadavg()[0], 1)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, with all its threads."""
    # The clock that Linux's clock_getcpuclockid(3) names: /proc counts in hundredths of a second,
    # which is all that an idle process uses in a while.
    return time.clock_gettime(~pid << 3 | 2)


def slowness() -> float:
    """Processor seconds that a fixed piece of work takes at the moment, 0.1 or so: a machine that
    is shared with others is slower at one time than at another."""
    text, began = orjson.dumps({f"field {n}": n for n in range(10)}), time.process_time()
    known: dict[int, Any] = {}
    for number in range(_PIECES):
        known[number % 1000] = {**orjson.loads(text), "number": number}
    return time.process_time() - began


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) / 1024


async def versions(settings: Settings, embedded: set[str]) -> dict[str, str]:
    """What each server says it is; of those that are not the real thing also what they are."""
    told = {
        "mongodb": await _mongodb(settings.mongodb_url),
        "nats": await _nats(settings.nats_url),
        "redis": await _redis(settings.redis_url),
        "elasticsearch": await _elasticsearch(settings.elasticsearch_url),
    }
    for name, package in WHEELS.items():
        if name in embedded and package not in told[name]:
            told[name] = f"{package} {_installed(package)}, as {told[name]}"
    return told


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


async def _mongodb(url: str) -> str:
    client = driver.client(url)
    try:
        told = await client.admin.command("buildInfo")
        version, own = told["version"], told.get("secantusVersion")
        return f"{WHEELS['mongodb']} {own}, as {version}" if own else str(version)
    finally:
        client.close()


async def _nats(url: str) -> str:
    js = await JetStream.connect(url, "benchmark")
    try:
        found = js.nc.connected_server_version
        return f"{found.major}.{found.minor}.{found.patch}"
    finally:
        await js.close()


async def _redis(url: str) -> str:
    async with redis.asyncio.from_url(url) as client:
        told = await client.info("server")
        own = told.get("valkey_version")
        return f"Valkey {own}, as {told['redis_version']}" if own else str(told["redis_version"])


async def _elasticsearch(url: str) -> str:
    elastic = Elastic(url)
    try:
        nodes = (await elastic.client.nodes.info(metric="os"))["nodes"]
        return str(next(iter(nodes.values()))["version"])
    finally:
        await elastic.close()
