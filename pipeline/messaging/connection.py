"""Connecting to NATS: it retries as long as it takes, and logs each reason for a refusal once."""

import asyncio
import logging
from typing import Any, Final

from pipeline.messaging import driver
from pipeline.messaging.fast_path import FastPathClient
from pipeline.messaging.values import ServerTooOld
from pipeline.support.access import ServerAccess
from pipeline.support.auth_errors import NATS, refusal
from pipeline.support.cancellation import raise_if_cancelled

log = logging.getLogger(__package__)

OLDEST_SERVER: Final = (2, 14)


async def connected(
    at: ServerAccess | str, name: str, closing: asyncio.Event, **options: Any
) -> FastPathClient:
    """A connection that reconnects by itself. Raises `ServerTooOld`. `options` are nats-py's."""
    refusals = Refusals(at)

    async def lost() -> None:
        refusals.last = None
        if not closing.is_set():
            log.warning("NATS: connection lost")

    nc = await driver.connect(
        at,
        name=name,
        max_reconnect_attempts=-1,
        ping_interval=2,  # a server that stands still is left after 6 s, an election takes 4 to 9
        max_outstanding_pings=2,
        allow_reconnect=True,
        **{
            "error_cb": refusals.on_error,
            "disconnected_cb": lost,
            "reconnected_cb": log_reconnected,
            **options,
        },
    )
    version = nc.connected_server_version
    if (version.major, version.minor) < OLDEST_SERVER:
        found = f"{version.major}.{version.minor}.{version.patch}"
        await nc.shut()
        raise ServerTooOld(
            f"nats-server at {ServerAccess.of(at)} is {found}; the bank needs 2.14 or newer "
            "(atomic batches, pinned consumers, consumer reset)"
        )
    return nc


class Refusals:
    """Why the server refuses the connection, from what nats-py reports; each reason logged once.

    `last`: in words for people; `error`: the last one, of whatever kind.
    """

    def __init__(self, at: ServerAccess | str, *, silent: bool = False) -> None:
        self._at, self._silent = ServerAccess.of(at), silent
        self.last: str | None = None
        self.error: Exception | None = None

    async def on_error(self, error: Exception) -> None:
        raise_if_cancelled()  # if one was swallowed, nats-py would try for ever
        log.debug("NATS: %r", error)
        self.error = error
        why = refusal(error, NATS)
        if why and why != self.last and not self._silent:
            log.warning("NATS at %s: %s; trying until it works", self._at, why)
        self.last = why or self.last


async def log_reconnected() -> None:
    """The default `reconnected_cb`; a callback of one's own calls it first."""
    log.warning("NATS: connected again")
