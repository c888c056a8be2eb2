"""A connection to JetStream ends for certain, whatever it is doing."""

import asyncio

import pytest
from nats.aio.client import Client

from pipeline.jetstream import JetStream
from pipeline.settings import Settings


async def test_one_that_tries_to_reconnect_is_closed_for_certain(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a driver swallows the first cancellation, as `asyncio.wait_for` of 3.11 may."""
    swallowed, trying = 0, asyncio.Event()

    async def deaf(client: Client, server: object) -> None:
        nonlocal swallowed
        trying.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            swallowed += 1
            if swallowed > 2:
                raise
        raise ConnectionRefusedError

    js = await JetStream.connect(settings.nats_url, "test")
    before = asyncio.all_tasks()
    monkeypatch.setattr(Client, "_connect_to_server", deaf)
    await js.nc._process_op_err(ConnectionError("lost"))
    await trying.wait()
    await js.close()
    assert asyncio.all_tasks() <= before
    assert swallowed
