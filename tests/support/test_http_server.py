"""What a peer may cost: a body that is refused, a head without end, an answer that nobody reads."""

import asyncio
import gzip
import io
import itertools
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from pipeline.support import event_loop, http_connections
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.http_connections import HttpConnections, most
from pipeline.support.http_server import Runner
from pipeline.support.settings import Settings
from tests.effort import effort
from tests.harness import eventually

BOMB = gzip.compress(bytes(300_000_000))
KEY = "bank_0123456789abcdef_0123456789012345678901234567890123456789012"


class Served:
    """An application that reads a body if it is asked to, and one connection after the other."""

    def __init__(self, port: int, connections: HttpConnections) -> None:
        self.port, self.connections = port, connections

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, request: bytes) -> bytes:
        """All that is sent until the connection ends. Whoever serves may end it first."""
        reader, writer = await self.open()
        with suppress(ConnectionError):
            if not writer.is_closing():
                writer.write(request)
                await writer.drain()
        try:
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def well(self) -> bool:
        return b'"ok"' in await self.answer(get("/"))

    @property
    def refused(self) -> dict[str, int]:
        return {reason: n for reason, n in self.connections.refusals.counts.items() if n}


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


async def sent_until_it_breaks(
    writer: asyncio.StreamWriter, what: bytes, pause: float = 0.0
) -> None:
    """Raises `TimeoutError` if it does not."""
    with suppress(ConnectionError):
        async with asyncio.timeout(30):
            while not writer.is_closing():  # uvloop's raises RuntimeError then
                writer.write(what)
                await writer.drain()
                await asyncio.sleep(pause)


@asynccontextmanager
async def served(**limits: float) -> AsyncIterator[Served]:
    settings = Settings().model_copy(update=limits)

    async def short(_: web.Request) -> web.Response:
        return web.json_response("ok")

    async def read(request: web.Request) -> web.Response:
        return web.json_response(len(await request.read()))

    async def long(_: web.Request) -> web.Response:
        return web.Response(body=bytes(30_000_000))

    app = web.Application()
    app.add_routes([web.get("/", short), web.post("/", read), web.get("/long", long)])
    connections = HttpConnections(settings)
    runner = Runner(app, connections, grace=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Served(runner.addresses[0][1], connections)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("coding", ["Content-Length: 9999999", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/nothing", "/"])
async def test_a_refused_body_is_neither_decompressed_nor_read(coding: str, path: str) -> None:
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\n{coding}\r\nContent-Encoding: gzip\r\n\r\n"
    async with served() as it:

        async def refused() -> None:
            answer = await it.answer(head.encode() + b"%x\r\n" % len(BOMB) + BOMB)
            assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405"))
            assert b"Connection: close" in answer

        async def decompressed() -> None:
            with gzip.open(io.BytesIO(BOMB)) as bomb:
                while bomb.read(1_000_000):
                    pass

        assert await effort(refused, decompressed, tries=3) < 0.5
        assert await it.well()


async def test_a_client_that_never_stops_sending_is_cut_off() -> None:
    async with served() as it:
        _, writer = await it.open()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
        await sent_until_it_breaks(writer, bytes(65536))
        await eventually(lambda: not it.connections._open)


async def test_a_body_that_is_wanted_is_read_as_it_came() -> None:
    body = gzip.compress(b"{}")
    head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    async with served() as it:
        answer = await it.answer(head.encode() + b"Content-Encoding: gzip\r\n\r\n" + body)
        assert answer.endswith(b"\r\n\r\n%d" % len(body))


@pytest.mark.parametrize("began", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: ", b"\r\n" * 3])
async def test_a_head_that_does_not_come_is_not_waited_for(began: bytes) -> None:
    async with served(http_head_seconds=1) as it:
        reader, writer = await it.open()
        writer.write(began)
        assert await reader.read() == b""
        writer.close()
        assert it.refused == {"slow-head": 1}
        assert await it.well()


async def test_a_head_byte_by_byte_gets_no_more_time() -> None:
    async with served(http_head_seconds=1) as it:
        _, writer = await it.open()
        writer.write(get("/")[:-2].replace(b"close", b"keep-alive") + b"X: ")
        await sent_until_it_breaks(writer, b"a", pause=0.05)


async def test_the_second_head_of_a_connection_has_the_same_limit() -> None:
    async with served(http_head_seconds=1) as it:
        reader, writer = await it.open()
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b'"ok"')).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(2 * http_connections.EVERY + 1)
        assert not reader.at_eof(), "an idle connection has longer"
        writer.write(b"GET / HT")
        assert await reader.read() == b""
        writer.close()
        assert it.refused == {"slow-head": 1}


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
PLAIN = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


WHOLE = (PLAIN, LENGTH, CHUNKED, 2 * PLAIN, PLAIN + LENGTH)


async def test_half_a_head_behind_a_request_has_the_same_limit() -> None:
    """All of them at once, for each waits until its time is over."""
    halves = (b"G", b"GET / HTTP/1.1\r\nHost: x\r\n")
    ways = itertools.product(WHOLE, halves, ([0], [0, -1], [0, 40]))
    await asyncio.gather(*(is_closed_for_its_half(*way) for way in ways))


async def is_closed_for_its_half(whole: bytes, half: bytes, pieces: list[int]) -> None:
    sent = whole + half
    async with served(http_head_seconds=1, http_idle_seconds=30) as it:
        reader, writer = await it.open()
        for begin, end in pairwise([*pieces, len(sent)]):
            writer.write(sent[begin:end])
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            answered = (await reader.read()).count(b"HTTP/1.1 200")
        writer.close()
        assert answered == whole.count(b"HTTP/1.1"), (sent, pieces)
        assert it.refused == {"slow-head": 1}, (sent, pieces)


async def test_a_connection_whose_requests_are_whole_stays_open() -> None:
    await asyncio.gather(*(stays_open(*way) for way in itertools.product(WHOLE, (1, 5, None))))


async def stays_open(whole: bytes, cut: int | None) -> None:
    async with served(http_head_seconds=3) as it:
        reader, writer = await it.open()
        writer.write(whole if cut is None else whole[:-cut])
        if cut is not None:
            await asyncio.sleep(0.05)
            writer.write(whole[-cut:])
        for _ in range(whole.count(b"HTTP/1.1")):
            await reader.readuntil(b"HTTP/1.1 200")
        await asyncio.sleep(2 * http_connections.EVERY + 3)
        assert not reader.at_eof(), (whole, cut)
        writer.close()


async def test_more_requests_at_once_than_wait_in_the_queue_are_all_answered() -> None:
    async with served() as it:
        answers = await it.answer(500 * PLAIN + get("/"))
        assert answers.count(b"HTTP/1.1 200") == 501


async def test_a_server_that_is_always_late_closes_what_is_late() -> None:
    async with served(http_head_seconds=1) as it:
        reader, writer = await it.open()

        def stand_still() -> None:
            time.sleep(2 * http_connections.EVERY + 0.1)

        async def overload() -> None:
            while True:
                stand_still()
                await asyncio.sleep(0)

        load = asyncio.create_task(overload())
        try:
            async with asyncio.timeout(20):
                assert await reader.read() == b""
        finally:
            await cancel_and_wait(load)
        writer.close()
        assert it.refused == {"slow-head": 1}


async def test_an_idle_connection_is_closed() -> None:
    async with served(http_idle_seconds=1) as it:
        reader, writer = await it.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b'"ok"' in await reader.read()
        writer.close()
        assert not it.refused


@pytest.mark.parametrize("requests", [1, 50])
async def test_a_client_that_reads_nothing_is_cut_off(requests: int) -> None:
    async with served(http_write_seconds=1) as it:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with sock:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", it.port))
            await loop.sock_sendall(sock, b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
            await eventually(lambda: it.refused == {"unread": 1})
            await eventually(lambda: not it.connections._open)
        assert await it.well()


async def test_the_one_that_is_idle_for_longest_makes_room() -> None:
    async with served(http_connections=8) as it:
        busy = [await it.open() for _ in range(8)]
        await eventually(lambda: len(it.connections._open) == 8)
        assert await it.well()
        assert await busy[0][0].read() == b""
        assert it.refused == {"too-many": 1}
        await eventually(lambda: len(it.connections._open) == 7)
        for _, writer in busy:
            writer.close()


async def test_with_none_that_is_idle_a_new_one_is_refused() -> None:
    async with served(http_connections=8) as it:
        sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        busy = [await it.open() for _ in range(8)]
        for _, writer in busy:
            writer.write(sent)
        await eventually(lambda: not it.connections._idle and len(it.connections._open) == 8)
        with suppress(ConnectionError):
            assert not await it.well()
        assert it.refused == {"too-many": 1}
        for reader, writer in busy:
            writer.write(b"{}")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
        await eventually(it.well)


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, expected in ((256, 64), (300, 75), (1024, 768), (10_000, 1000), (-1, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, f=files: (f, f))
        assert most(1000) == expected


@pytest.mark.parametrize(
    "head",
    [
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\x00\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}{'x' * 9000}\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: x\r\n\r\n",
        f"Bearer {KEY}\r\n\r\n",
        f"GET /{KEY}{'x' * 9000} HTTP/1.1\r\n\r\n",
    ],
)
async def test_the_log_has_one_line_of_malformed_requests_and_nothing_of_them(
    head: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served() as it:
        for _ in range(5):
            answer = await it.answer(head.encode())
            assert answer.startswith(b"HTTP/1.0 400")
            assert b"application/problem+json" in answer
            assert KEY.encode() not in answer
        assert it.refused == {"malformed": 5}
    lines = [each for each in caplog.records if each.name.startswith(("pipeline", "aiohttp"))]
    assert [each.getMessage() for each in lines] == ["1 requests that are not HTTP were refused"]
    assert KEY not in caplog.text
    assert not any(each.exc_info for each in lines)


@pytest.mark.parametrize("expect", [b"\xe9", b"200-ok", b"\xff" * 100, b"100-continue, x"])
async def test_an_expectation_that_nobody_meets(expect: bytes) -> None:
    async with served() as it:
        answer = await it.answer(get("/")[:-2] + b"Expect: " + expect + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 417")
        assert b"application/problem+json" in answer


async def test_no_answer_tells_the_version_of_the_server() -> None:
    async with served() as it:
        for request in (get("/"), get("/nothing"), b"x\r\n\r\n"):
            head = (await it.answer(request)).partition(b"\r\n\r\n")[0].decode()
            assert "Server: bank\r\n" in f"{head}\r\n"
            assert "Cache-Control: no-store" in head
            assert "X-Content-Type-Options: nosniff" in head


@pytest.mark.parametrize(
    "limit",
    [
        test_a_client_that_never_stops_sending_is_cut_off,
        test_a_body_that_is_wanted_is_read_as_it_came,
        test_a_head_byte_by_byte_gets_no_more_time,
        test_an_idle_connection_is_closed,
        partial(test_a_client_that_reads_nothing_is_cut_off, 1),
        test_with_none_that_is_idle_a_new_one_is_refused,
    ],
)
def test_the_limits_are_the_same_on_the_loop_of_the_roles(
    limit: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    event_loop.run(limit())
