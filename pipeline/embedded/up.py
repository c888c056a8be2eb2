"""`bank up`: runs embedded servers, forwarder, worker and both services under one process.

It restarts a role that dies. If a server dies, it stops everything and raises an error that names
the server. At the end it stops the roles first, because they need the servers to drain.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final

from pipeline.embedded.health import unwell
from pipeline.embedded.processes import Child, Children
from pipeline.embedded.restarts import Backoff, ending
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.servers import EmbeddedServers
from pipeline.embedded.startup_checks import EmbeddedError, free_ports, port_taken
from pipeline.support import cancellation, tracing
from pipeline.support.addresses import check_guarded, reachable, url
from pipeline.support.settings import PREFIX, TEST_PREFIX, Settings, environment

log = logging.getLogger(__name__)

OnLine = Callable[[str, str], None]
"""Called with each line that a role logs: (role, line). Called from threads."""

READY_SECONDS: Final = 180.0
"""Seconds in which all roles have to become ready."""

ROLES: Final = ("forwarder", "worker", "accounts", "balances")
"""The roles that run on one machine, each as a process."""
SERVICES: Final = ("accounts", "balances")
"""The roles whose port is a setting."""


def roles_of(settings: Settings) -> list[str]:
    """The roles of the application: without aggregates nothing takes commands, and without
    projections nothing is applied or read."""
    needless = {"worker", "balances"} if not settings.kept else set()
    if not settings.chosen.aggregates:
        needless.add("accounts")
    return [each for each in ROLES if each not in needless]


def servers_of(settings: Settings) -> list[str]:
    """The servers that its roles need."""
    return [each for each in SERVER_BINARIES if each != "elasticsearch" or settings.kept]


def accounts_url(settings: Settings) -> str:
    return url(reachable(settings.host), settings.accounts_port)


def balances_url(settings: Settings) -> str:
    return url(reachable(settings.host), settings.balances_port)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, on_line: OnLine, *, without: Collection[str] = ()
) -> AsyncIterator[None]:
    """Run the bank while the body runs; the body begins when every role is ready.

    `without` names servers that run already. Raises EmbeddedError; if a server dies, it cancels
    the body to raise it.
    """
    check_guarded(settings)
    tracing.require(settings)
    ours = [name for name in servers_of(settings) if name not in without]
    servers = EmbeddedServers(settings, ours)
    await servers.start()
    try:
        _check_ports(settings)
        # The order of the exits: roles drain and stop, the watch ends, then the servers stop.
        async with _watched(servers), _roles(settings, on_line):
            await _all_ready(settings)
            yield
    finally:
        await servers.stop()


@contextlib.asynccontextmanager
async def _watched(servers: EmbeddedServers) -> AsyncIterator[None]:
    """Cancel the body when a server dies, and raise the error about the server instead."""
    body = asyncio.current_task()
    death: list[EmbeddedError] = []

    async def watch() -> None:
        try:
            await servers.wait_dead()
        except EmbeddedError as error:
            death.append(error)
            assert body is not None
            body.cancel()

    try:
        async with cancellation.running(watch()):
            yield
    except asyncio.CancelledError:
        if not death:
            raise
        assert body is not None
        # The cancellation was ours: a caller's `asyncio.timeout` must not count it as its own.
        body.uncancel()
        raise death[0] from None


@contextlib.asynccontextmanager
async def _roles(settings: Settings, on_line: OnLine) -> AsyncIterator[None]:
    children = Children(settings.data_dir.absolute())
    keepers = [_keep(children, role, settings, on_line) for role in roles_of(settings)]
    try:
        async with cancellation.running(*keepers):
            yield
    finally:
        await children.close()


async def _keep(children: Children, role: str, settings: Settings, on_line: OnLine) -> None:
    """Run a role for ever: log its death and restart it, with growing pauses."""
    backoff = Backoff()
    while True:
        began = time.monotonic()
        child = _start(children, role, settings, on_line)
        code = await child.wait()
        children.forget(child)
        pause = backoff.pause(time.monotonic() - began)
        log.error("%s died (%s); it starts again in %.0f s", role, ending(code), pause)
        await asyncio.sleep(pause)


def _start(children: Children, role: str, settings: Settings, on_line: OnLine) -> Child:
    """Start a role; forwarder and worker get a free port for their metrics."""
    setting = f"{role}_port" if role in SERVICES else "metrics_port"
    port = getattr(settings, setting) if role in SERVICES else next(free_ports(settings.host))
    placed = environment(settings.model_copy(update={setting: port}))
    return children.start(
        role,
        [sys.executable, "-m", "pipeline.cli.main", role],
        env={**_others(), **placed, "PYTHONUNBUFFERED": "1"},
        on_line=lambda line: on_line(role, line),
        address=url(reachable(settings.host), port),
    )


def _others() -> dict[str, str]:
    """The variables that are no settings: what is not set for a role must not reach it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX)
    }


async def _all_ready(settings: Settings) -> None:
    """Wait until every role is ready; log what is missing every 10 seconds."""
    deadline, logged = time.monotonic() + READY_SECONDS, time.monotonic()
    while missing := await unwell(settings.data_dir, roles_of(settings)):
        words = "; ".join(f"{role}: {why}" for role, why in missing.items())
        if time.monotonic() > deadline:
            raise EmbeddedError(f"not ready after {READY_SECONDS:.0f} s: {words}")
        if time.monotonic() - logged > 10:
            log.info("not ready yet: %s", words)
            logged = time.monotonic()
        await asyncio.sleep(0.1)


def _check_ports(settings: Settings) -> None:
    for role in filter(SERVICES.__contains__, roles_of(settings)):
        port = getattr(settings, f"{role}_port")
        if port_taken(settings.host, port):
            raise EmbeddedError(
                f"the {role} service: port {port} of {settings.host} is taken. Stop what listens "
                f"there, or set {PREFIX}{role.upper()}_PORT to another one."
            )
