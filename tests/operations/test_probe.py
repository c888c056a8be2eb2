"""What a probe learns of a server that gives no answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.errors import UnexpectedEOF

from api.balances.connections import Connections
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import StoreUnavailable
from pipeline.operations.status.probe import Unknown, probe
from pipeline.operations.status.reader import StatusReader
from pipeline.search import ProjectionUnavailable
from pipeline.support.settings import Settings
from tests.harness import eventually


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (StoreUnavailable("localhost:27017: [Errno 111] Connection refused (…)"), True),
        (StoreUnavailable("localhost:27017: timed out (…), <TopologyDescription …>"), False),
        (ProjectionUnavailable("Cannot connect to host x:9200 [Connect call failed (…)]"), True),
        (ProjectionUnavailable("ConnectionTimeout: Connection timed out"), False),
        (ConnectionError("disconnected"), False),
        (ConnectionError(ConnectionRefusedError(111, "Connect call failed ('::1', 4222)")), True),
        (ConnectionError(NatsTimeout()), False),
        (ConnectionError(UnexpectedEOF()), False),
        (TimeoutError(), False),
    ],
)
async def test_where_nobody_listens_is_told_from_what_is_late(error: Exception, away: bool) -> None:
    async def question() -> None:
        raise error

    found = await probe("It", question, asyncio.get_running_loop().time() + 10)
    assert isinstance(found, Unknown)
    assert (found.why, found.away) == ("It does not answer", away)


async def test_one_that_is_cancelled_at_once_has_asked_nothing() -> None:
    asked = []

    async def question() -> None:
        asked.append(1)

    probing = asyncio.gather(probe("It", question, asyncio.get_running_loop().time() + 10))
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert asked == []


class FakeNats:
    """Says as much as a client needs to connect; once it is frozen, nothing more."""

    def __init__(self) -> None:
        self._frozen = False
        self._clients: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def end(self, *, frozen: bool) -> None:
        """Lose each connection, and take new ones only if it is frozen."""
        self._frozen = frozen
        if not frozen:
            self._server.close()
        self.lose_all()

    def lose_all(self) -> None:
        for each in self._clients:
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(writer)
        if self._frozen:
            return
        writer.write(b'INFO {"version": "2.14.0", "headers": true, "max_payload": 1048576}\r\n')
        async for line in reader:
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")


@pytest.fixture
async def fake_nats() -> AsyncIterator[FakeNats]:
    server = FakeNats()
    await server.start()
    yield server
    await server.end(frozen=False)


async def test_when_nats_was_connected_again_is_known(fake_nats: FakeNats) -> None:
    connections = Connections(Settings(nats_url=fake_nats.url))
    await connections.connected()
    assert connections.reconnected_at == 0
    fake_nats.lose_all()
    await eventually(lambda: connections.reconnected_at)
    await connections.close()


@pytest.mark.parametrize("was_connected", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
async def test_nats_that_is_frozen_still_listens(
    fake_nats: FakeNats, was_connected: bool, frozen: bool
) -> None:
    settings = Settings(nats_url=fake_nats.url)
    connections = Connections(settings)
    reader = StatusReader(
        settings, connections.connected_by_now, lambda: connections.store, BALANCE
    )

    async def look() -> bool:
        """Whether nobody listens there."""
        found = await probe("NATS", reader.jetstream, asyncio.get_running_loop().time() + 0.2)
        assert isinstance(found, Unknown)
        return found.away

    if was_connected:
        js = await reader.jetstream()
    await fake_nats.end(frozen=frozen)
    if was_connected:
        await eventually(lambda: not js.nc.is_connected)
    if frozen:
        assert not any([await look() for _ in range(3)])
    else:
        await eventually(look)
    await connections.close()
    await reader.close()
