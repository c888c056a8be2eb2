"""Connecting to NATS: for as long as it takes, and with what it says against it told once."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from pipeline.messaging import driver
from pipeline.messaging.fast_path import FastPathClient
from pipeline.messaging.values import ServerTooOld
from pipeline.support.access import ServerAccess
from pipeline.support.auth_errors import NATS, refusal
from pipeline.support.cancellation import cancel_and_wait, heed_cancellation

log = logging.getLogger(__package__)

OLDEST_SERVER: Final = (2, 14)


async def connected(
    at: ServerAccess | str, name: str, closing: asyncio.Event, **options: Any
) -> FastPathClient:
    """A connection that comes back by itself. Raises `ServerTooOld`. `options` go to the driver."""
    refusals = Refusals(at)

    async def lost() -> None:
        refusals.last = None
        if not closing.is_set():
            log.warning("NATS: connection lost")

    nc = await driver.connect(
        at,
        name=name,
        max_reconnect_attempts=-1,
        ping_interval=5,
        max_outstanding_pings=2,
        allow_reconnect=True,
        **{
            "error_cb": refusals.noted,
            "disconnected_cb": lost,
            "reconnected_cb": say_back,
            **options,
        },
    )
    version = nc.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        found = f"{version.major}.{version.minor}.{version.patch}"
        await nc.close()
        raise ServerTooOld(
            f"nats-server at {ServerAccess.of(at)} is {found}; the bank needs 2.14 or newer "
            "(atomic batches, pinned consumers, consumer reset)"
        )
    return nc


async def closed(nc: FastPathClient) -> None:
    """Close a connection, whether it is up or comes back just now."""
    if not nc.is_connected:  # what was to be sent goes nowhere: closing would fail on it
        nc._pending_data_size = 0
    with suppress(ConnectionError):
        await nc.close()
    reconnecting = nc._reconnection_task
    if reconnecting is not None:  # its cancellation may have been swallowed (`ended` says how)
        await cancel_and_wait(reconnecting)


class Refusals:
    """What the driver reports of a server that it can't connect to: refusals are said, once."""

    def __init__(self, at: ServerAccess | str, *, tell: bool = True) -> None:
        self._at, self._tell = ServerAccess.of(at), tell
        self.last: str | None = None

    async def noted(self, error: Exception) -> None:
        heed_cancellation()  # the driver would try for ever
        log.debug("NATS: %r", error)
        why = refusal(error, NATS)
        if why and why != self.last and self._tell:
            log.warning("NATS at %s: %s; trying until it works", self._at, why)
        self.last = why or self.last


async def say_back() -> None:
    """Log that the connection is back; one who needs to know calls it beside its own work."""
    log.warning("NATS: connected again")
