"""A connection to JetStream ends for certain, whatever it is doing."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import orjson
import pytest
from nats.aio.client import Client, ServerVersion
from nats.aio.transport import TcpTransport

from pipeline.messaging import JetStream, JetStreamError
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.settings import Settings
from tests.harness import eventually


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


async def cancelled_leaving(client: Client, leaving: asyncio.Task[Any], rounds: int) -> None:
    """Cancel what closes the client after so many rounds of the event loop: it is closed."""
    assert isinstance(client._transport, TcpTransport)
    assert client._transport._io_writer is not None
    transport = client._transport._io_writer.transport
    for _ in range(rounds):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait((leaving,))
    assert transport.is_closing()


@pytest.mark.parametrize("rounds", range(1, 6))
async def test_a_close_that_is_cancelled_leaves_no_connection(
    settings: Settings, rounds: int
) -> None:
    """Who ends a role cancels it until it has ended, so also while it closes its connections."""
    before = asyncio.all_tasks()
    js = await JetStream.connect(settings.nats_url, "test")
    await js.ping()
    await cancelled_leaving(js.nc, asyncio.create_task(js.close()), rounds)
    assert await eventually(lambda: asyncio.all_tasks() <= before, seconds=5)


@pytest.mark.parametrize("rounds", range(6))
async def test_who_stops_while_an_older_server_is_left_leaves_no_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    before = asyncio.all_tasks()
    asked: asyncio.Queue[Client] = asyncio.Queue()

    def version(client: Client) -> ServerVersion:
        asked.put_nowait(client)
        return ServerVersion("2.10.29")

    monkeypatch.setattr(Client, "connected_server_version", property(version))
    connecting = asyncio.create_task(JetStream.connect(settings.nats_url, "test"))
    await cancelled_leaving(await asked.get(), connecting, rounds)
    assert await eventually(lambda: asyncio.all_tasks() <= before, seconds=5)


async def test_a_request_passes_on_a_cancellation_that_comes_with_its_reply(
    settings: Settings,
) -> None:
    js = await JetStream.connect(settings.nats_url, "test")

    async def poll() -> None:
        await js.ping()
        await asyncio.sleep(30)

    try:
        await js.ping()
        polling = asyncio.create_task(poll())
        while not js.nc._resp_map:  # noqa: ASYNC110 - until the request is sent, and no longer
            await asyncio.sleep(0)
        (reply,) = js.nc._resp_map.values()
        reply.add_done_callback(lambda _: polling.cancel())
        async with asyncio.timeout(10):
            await asyncio.wait((polling,))
        assert polling.cancelled()
        assert reply.result() is not None
    finally:
        await js.close()


@pytest.mark.parametrize("refusals", [2, None])
async def test_a_stream_is_made_once_the_deleted_one_has_let_go_of_its_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, refusals: int | None
) -> None:
    """And an error that stays is told; here NATS answers as it does while files still go."""
    monkeypatch.setattr("pipeline.messaging.client._DELETING_SECONDS", 0.5)
    js = await JetStream.connect(settings.nats_url, "test")
    ask, refused = js.api, 0

    async def api(verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        nonlocal refused
        if verb.startswith("STREAM.CREATE") and (refusals is None or refused < refusals):
            refused += 1
            raise JetStreamError(10049, "error creating store for stream")
        return await ask(verb, body)

    monkeypatch.setattr(js, "api", api)
    try:
        if refusals is None:
            with pytest.raises(JetStreamError, match="creating store"):
                await js.ensure_stream("again", ["again.*"])
            assert refused > 2
        else:
            assert (await js.ensure_stream("again", ["again.*"]))["name"] == "again"
            assert refused == refusals
    finally:
        await js.close()


@pytest.mark.parametrize("said", [b"", b'INFO {"version": "2.14.0", "max_payload": 1048576}\r\n'])
async def test_who_stops_connecting_leaves_no_connection(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the server has said by then; nor does it say that one was lost."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        if said:
            await reader.readline()  # its CONNECT
        begun.set()
        with suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connecting = asyncio.create_task(JetStream.connect(f"nats://127.0.0.1:{port}", "test"))
        async with asyncio.timeout(20):
            await begun.wait()
            assert not ended.is_set()
            await cancel_and_wait(connecting)
            await ended.wait()
    assert "connection lost" not in caplog.text


@pytest.mark.parametrize(
    ("cluster", "known"),
    [
        ({}, True),
        ({"leader": "a lone server"}, True),
        ({"name": "nats", "leader": "n0"}, True),
        ({"name": "nats"}, False),
        ({"name": "nats", "leader": ""}, False),
    ],
)
async def test_the_state_of_a_stream_is_what_its_leader_says(
    cluster: dict[str, str], known: bool
) -> None:
    """Without a leader any server that has a copy answers: what it says may be old."""
    state = {"first_seq": 1, "last_seq": 2, "messages": 2}
    answer = {"created": "now", "config": {}, "state": state, "cluster": cluster}
    message = SimpleNamespace(data=orjson.dumps(answer))
    nc = SimpleNamespace(request=AsyncMock(return_value=message), jetstream=lambda timeout: None)
    js = JetStream(cast(Any, nc), asyncio.Event())
    for call in (js.state("s"), js.config("s"), js.counted("s", "x")):
        if known:
            assert await call is not None
        else:
            with pytest.raises(JetStreamError, match="has no leader"):
                await call
