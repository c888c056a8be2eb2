"""The proxies that tests put between a role and a server, in front of servers of a few lines."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.proxy import (
    Answering,
    Held,
    HttpProxy,
    Slow,
    TcpProxy,
    TooLarge,
    busy_items,
    refused,
    writes_to,
)
from tests.proxy.closed import ClosedIndex


async def echo(request: web.Request) -> web.Response:
    """What it got, in a type of its own; a bulk's items are all accepted."""
    body = await request.read()
    if request.path.endswith("_bulk"):
        ids = [json.loads(line)["index"]["_id"] for line in body.splitlines()[::2]]
        items = [{"index": {"_id": each, "status": 201}} for each in ids]
        return web.json_response({"errors": False, "items": items})
    headers = {"Content-Type": "text/x-echo; charset=utf-8", "X-Seen": request.raw_path}
    return web.Response(status=418, body=body[::-1], headers=headers)


@pytest.fixture
async def target() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def proxy(target: str) -> AsyncIterator[HttpProxy]:
    async with HttpProxy(target) as opened:
        yield opened


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def bulk(*ids: str, index: str = "balance-1") -> bytes:
    lines = [{"index": {"_index": index, "_id": each}} for each in ids]
    return b"".join(json.dumps(line).encode() + b'\n{"a":1}\n' for line in lines)


async def statuses(http: aiohttp.ClientSession, url: str, body: bytes) -> dict[str, int]:
    async with http.post(f"{url}/_bulk", data=body) as answer:
        found = await answer.json()
    items = [item["index"] for item in found["items"]]
    assert found["errors"] == any(item["status"] >= 300 for item in items)
    return {item["_id"]: item["status"] for item in items}


async def test_http_passes_all_as_it_is(proxy: HttpProxy, http: aiohttp.ClientSession) -> None:
    async with http.put(f"{proxy.url}/a%2Fb?c=%20d", data=b"\x00\xff1") as answer:
        assert (answer.status, await answer.read()) == (418, b"1\xff\x00")
        assert answer.headers["Content-Type"] == "text/x-echo; charset=utf-8"
        assert answer.headers["X-Seen"] == "/a%2Fb?c=%20d"


async def test_http_answers_a_share(proxy: HttpProxy, http: aiohttp.ClientSession) -> None:
    fault = Answering(503, share=0.5, seed=3, match=lambda request: request.path == "/x")
    found = []
    with proxy.faulty(fault):
        for path in ("x", "y") * 20:
            async with http.get(f"{proxy.url}/{path}") as answer:
                found.append(answer.status)
    assert set(found[1::2]) == {418}
    assert 0 < found.count(503) == fault.count < 20
    async with http.get(f"{proxy.url}/x") as answer:
        assert answer.status == 418


async def test_http_fails_items(proxy: HttpProxy, http: aiohttp.ClientSession) -> None:
    with proxy.faulty(refused({"b", "x"}), busy_items(1.0)):
        assert await statuses(http, proxy.url, bulk("a", "b")) == {"a": 429, "b": 400}
    with proxy.faulty(refused({"b"})):
        assert await statuses(http, proxy.url, bulk("a", "b", "c")) == {
            "a": 201,
            "b": 400,
            "c": 201,
        }
    ids = [str(number) for number in range(200)]
    with proxy.faulty(busy_items(0.3, 503, seed=5)):
        found = list((await statuses(http, proxy.url, bulk(*ids))).items())
    assert [each for each, _ in found] == ids
    assert 20 < sum(status == 503 for _, status in found) < 100


async def test_http_refuses_what_is_too_large(
    proxy: HttpProxy, http: aiohttp.ClientSession
) -> None:
    most = len(bulk("a", "b"))
    with proxy.faulty(TooLarge(most)):
        assert len(await statuses(http, proxy.url, bulk("a", "b"))) == 2
        async with http.post(f"{proxy.url}/_bulk", data=bulk("a", "b", "c")) as answer:
            assert (answer.status, answer.content_type) == (413, "text/html")


async def test_http_knows_a_closed_index_until_it_is_opened(
    proxy: HttpProxy, http: aiohttp.ClientSession
) -> None:
    closed = ClosedIndex("balance-1", ["balance", "balance-g1"])
    with proxy.faulty(closed):
        body = bulk("a", index="balance-g1") + bulk("b", index="balance-g2")
        assert await statuses(http, proxy.url, body) == {"a": 400, "b": 201}
        async with http.post(f"{proxy.url}/balance-g1/_mget", json={"ids": ["a"]}) as answer:
            (found,) = (await answer.json())["docs"]
        assert found["error"]["type"] == "index_closed_exception"
        async with http.post(f"{proxy.url}/balance-*/_open") as answer:
            assert answer.status == 418
        assert closed.closed, "the server has not opened it"
        closed.closed = False
        assert await statuses(http, proxy.url, body) == {"a": 201, "b": 201}


@pytest.mark.parametrize("after", [False, True])
async def test_http_holds(proxy: HttpProxy, http: aiohttp.ClientSession, after: bool) -> None:
    held = Held(writes_to("balance"), after=after)
    with proxy.faulty(held):
        assert await statuses(http, proxy.url, bulk("a", index="other")) == {"a": 201}
        waiting = asyncio.create_task(statuses(http, proxy.url, bulk("a")))
        await held.caught()
        assert len(held.replies) == after
        assert not waiting.done()
        (reply,) = await held.release()
        assert reply.status == 200
        assert await waiting == {"a": 201}
        assert await statuses(http, proxy.url, bulk("b")) == {"b": 201}
    assert len(held.requests) == 1


async def test_http_is_slow_and_breaks_as_the_server_does(http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    async with TcpProxy("http://127.0.0.1:1") as nowhere, HttpProxy(nowhere.url) as proxy:
        with proxy.faulty(Slow(0.1)):
            started = loop.time()
            with pytest.raises(aiohttp.ClientError):
                await http.get(proxy.url)
            assert loop.time() - started >= 0.1


# -------------------------------------------------------------------- TCP


@pytest.fixture
async def line() -> AsyncIterator[TcpProxy]:
    """A proxy in front of a server that gives back each line."""
    clients: set[asyncio.StreamWriter] = set()

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(writer)
        while text := await reader.readline():
            writer.write(text)
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with TcpProxy(f"redis://me:secret@127.0.0.1:{port}/3") as opened:
        assert opened.url == f"redis://me:secret@127.0.0.1:{opened.port}/3"
        yield opened
    server.close()
    for client in clients:
        client.transport.abort()


async def said(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """What comes back within a moment; nothing is `b""`."""
    streams[1].write(b"hello\n")
    try:
        async with asyncio.timeout(0.3):
            return await streams[0].readline()
    except (TimeoutError, OSError):
        return b""


async def opened(line: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", line.port)


async def test_tcp_passes_cuts_and_mends(line: TcpProxy) -> None:
    before = await opened(line)
    with line.recording() as record:
        assert await said(before) == b"hello\n"
    assert await said(before) == record == b"hello\n"
    await line.cut()
    assert await before[0].read() == b""
    with pytest.raises(ConnectionRefusedError):
        await opened(line)
    await line.mend()
    after = await opened(line)
    assert await said(after) == b"hello\n"
    for _, writer in (before, after):
        writer.close()


async def test_tcp_hangs_and_keeps_what_it_was_given(line: TcpProxy) -> None:
    before = await opened(line)
    await line.hang()
    during = await opened(line)
    assert [await said(before), await said(during)] == [b"", b""]
    assert line.kept() == b"hello\n" * 2
    await line.mend()
    assert [await streams[0].readline() for streams in (before, during)] == [b"hello\n"] * 2
    assert line.kept() == b""
    await line.hang()
    await said(before)
    await line.cut()
    assert line.kept() == b""
    for _, writer in (before, during):
        writer.close()


async def test_tcp_is_slow(line: TcpProxy) -> None:
    streams = await opened(line)
    await line.slow(0.05)
    started = asyncio.get_running_loop().time()
    assert await said(streams) == b"hello\n"
    assert asyncio.get_running_loop().time() - started >= 0.1
    streams[1].close()


async def test_tcp_half_open(line: TcpProxy) -> None:
    before = await opened(line)
    assert await said(before) == b"hello\n"
    line.half_open()
    assert await said(before) == b""
    assert not before[0].at_eof()
    after = await opened(line)
    assert await said(after) == b"hello\n"
    for _, writer in (before, after):
        writer.close()


async def test_tcp_leads_new_connections_to_another_server(line: TcpProxy, target: str) -> None:
    before = await opened(line)
    line.lead_to(target)
    reader, writer = await opened(line)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.0 418")
    assert await said(before) == b"hello\n"
    for streams in (before, (reader, writer)):
        streams[1].close()


async def test_tcp_says_at_once_that_the_server_is_gone() -> None:
    async with TcpProxy("nats://127.0.0.1:1") as proxy:
        reader, writer = await opened(proxy)
        with suppress(OSError):
            assert await reader.read() == b""
        writer.close()
