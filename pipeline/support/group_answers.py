"""What the processes of a group answer as one: metrics and readiness.

A client's connection is accepted by any of them. That one asks all, itself too, over the Unix
sockets on which each of them answers for itself alone. A role that is one process has none of this.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.hdrs import ACCEPT, CONTENT_TYPE

from pipeline.support.metrics import PATIENCE, Metrics
from pipeline.support.process_group import Member
from pipeline.support.readiness import DEADLINE, Checks, NotReady, readiness, worded

NEED: Final = "process"
"""Of `bank_ready`: 0 for a process that does not answer. Also the label of its metrics."""

_READY_SECONDS: Final = DEADLINE - 0.1
_CHECKS_SECONDS: Final = DEADLINE - 0.5
"""How long a process is waited for, and how long it waits for servers: less, so that it can tell
for which."""
_PAGE_SECONDS: Final = PATIENCE + 1.0


def answering_as_one(app: web.Application, metrics: Metrics, checks: Checks) -> Checks:
    """Have `app` answer the other processes while it runs; returns the checks of all processes, by
    `process 0`, `process 1`, …. For a process that is alone: its own checks."""
    member = Member.of_this_process()
    if member is None:
        return checks
    app.cleanup_ctx.append(_answering(member, metrics, checks))
    return {
        f"{NEED} {number}": partial(_require_ready, member, number)
        for number in range(member.count)
    }


async def exposition(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """As `Metrics.exposition`, with the metrics of all processes, each labelled with its own."""
    member = Member.of_this_process()
    if member is None:
        return await metrics.exposition(accept)
    numbers = range(member.count)
    found = await asyncio.gather(*(_page(member, number, accept) for number in numbers))
    pages = {number: page for number, page in zip(numbers, found, strict=True) if page}
    if not pages:
        raise web.HTTPServiceUnavailable
    shown = metrics.names.metric("bank_ready")
    ready = [
        f'{shown}{{role="{metrics.role}",need="{NEED}",{NEED}="{number}"}} {number in pages:d}.0'
        for number in numbers
    ]
    texts = {number: text for number, (text, _) in pages.items()}
    return merged(texts, ready).encode(), next(iter(pages.values()))[1]


def merged(pages: Mapping[int, str], ready: Iterable[str] = ()) -> str:
    """One page of those of several processes: each family once, each sample with its process.

    `ready` has further samples. Lines are enough: no value has a line break, in
    Prometheus' text and in OpenMetrics, which ends with a line of its own.
    """
    families: dict[str, list[str]] = {}
    last: dict[str, None] = {}
    for number, page in pages.items():
        family, known = list[str](), False
        for line in page.splitlines():
            if line == "# EOF":
                last[line] = None
            elif not line.startswith("# "):
                family.append(_labelled(line, number))
            elif line.startswith("# HELP "):
                name = line.split(" ")[2]
                known = name in families
                family = families.setdefault(name, [line])
            elif not known:
                family.append(line)
    for sample in ready:
        families.setdefault(sample.partition("{")[0], []).append(sample)
    lines = [line for family in families.values() for line in family]
    return "\n".join([*lines, *last, ""])


def _labelled(sample: str, number: int) -> str:
    name, sign, rest = sample.partition("{")
    if sign and " " not in name:
        return f'{name}{{{NEED}="{number}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{{NEED}="{number}"}} {value}'


def _answering(
    member: Member, metrics: Metrics, checks: Checks
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Answers the others for this process alone, for the time of an application."""

    async def scrape(request: web.Request) -> web.Response:
        text, content_type = await metrics.exposition(request.headers.get(ACCEPT, ""))
        return web.Response(body=text, headers={CONTENT_TYPE: content_type})

    async def ready(_: web.Request) -> web.Response:
        lacking, warnings = await readiness(checks, _CHECKS_SECONDS)
        text = worded("waits for", lacking) if lacking else "; ".join(warnings.values())
        return web.Response(text=text, status=503 if lacking else 200)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        own, path = web.Application(), member.socket_of(member.number)
        own.add_routes([web.get("/metrics", scrape), web.get("/readyz", ready)])
        runner = web.AppRunner(own, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.UnixSite(runner, path).start()
        yield
        await runner.cleanup()

    return lifetime


async def _require_ready(member: Member, number: int) -> str:
    """What it warns of."""
    try:
        status, text, _ = await _ask(member, number, "/readyz", _READY_SECONDS)
    except (aiohttp.ClientError, OSError):
        raise NotReady("does not answer") from None
    if status != 200:
        raise NotReady(text.removesuffix("."))
    return text


async def _page(member: Member, number: int, accept: str) -> tuple[str, str] | None:
    """The metrics of one process and their content type; None if it does not answer."""
    try:
        status, text, content_type = await _ask(
            member, number, "/metrics", _PAGE_SECONDS, {ACCEPT: accept}
        )
    except (aiohttp.ClientError, OSError):
        return None
    return (text, content_type) if status == 200 else None


async def _ask(
    member: Member,
    number: int,
    path: str,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Status, text and content type of an answer."""
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(member.socket_of(number))),
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as http,
        http.get(f"http://{NEED}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text(), answer.headers.get(CONTENT_TYPE, "")
