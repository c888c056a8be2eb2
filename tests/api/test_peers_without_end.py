"""Services as processes: few files, and peers that do nothing; and what their logs have of keys."""

import asyncio
import re
import resource
from contextlib import suppress
from typing import Final

import pytest

from pipeline.operations import keys
from pipeline.support.settings import Settings
from tests.harness import LONG_LANE, Role, eventually, some_of
from tests.support.test_http_server import get

_, KEY = keys.new(keys.Role.OPERATOR)
MALFORMED: Final = (
    f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\0\r\n\r\n",
    f"GET /{KEY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {KEY}\r\nExpect: \xe9\r\n\r\n",
    f"GET /?key={KEY} HTTP/1.1\r\nHost: localhost\r\nReferer: {KEY}\r\nUser-Agent: {KEY}\r\n\r\n",
    f"{KEY}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {KEY}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: {KEY}\r\nX-Correlation-ID: {KEY}\r\n\r\n",
    f"GET / HTTP/9.9\r\nHost: localhost\r\nX: {KEY}{'x' * 9000}\r\n\r\n",
    f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n\r\n",
)

LIMITED: Final = (
    "import resource, os, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300));"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


async def answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):
            writer.write(request)
            async with asyncio.timeout(20):
                return await reader.read()
        return b""
    finally:
        writer.close()


async def lives(port: int) -> bool:
    request = get("/livez").replace(b"Host: x", b"Host: localhost")
    return (await answer(port, request)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "began",
    [pytest.param(b"", marks=LONG_LANE), b"POST /deposit HTTP/1.1\r\nHost: localhost\r\nX: "],
)
async def test_idle_sockets_do_not_stop_a_service(settings: Settings, began: bytes) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert files > 500
    few = settings.model_copy(update={"http_head_seconds": 5.0})
    bank = Role(few, "bank", "accounts").command[0]
    async with Role(few, "python", "-c", LIMITED, bank, "accounts") as service:
        port = settings.accounts_port
        await eventually(lambda: lives(port), seconds=60)
        idle = []
        for _ in range(320):
            with suppress(OSError):
                idle.append(await asyncio.open_connection("127.0.0.1", port))
                idle[-1][1].write(began)
        for _ in range(5):
            async with asyncio.timeout(5):
                assert await lives(port)
        for reader, writer in idle:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await lives(port)
        assert len(service.log()) < 20_000
        assert service.log().count("as many as there may be") == 1
        assert "Too many open files" not in service.log()


@pytest.mark.drill
@pytest.mark.elasticsearch
@pytest.mark.parametrize("level", [pytest.param("INFO", marks=LONG_LANE), "DEBUG"])
@pytest.mark.parametrize("log_format", some_of(["text", "json"], "json"))
async def test_no_log_has_a_key(settings: Settings, level: str, log_format: str) -> None:
    told = settings.model_copy(update={"log_level": level, "log_format": log_format})
    names = ("accounts", "balances", "worker", "forwarder")
    roles = [Role(told, "bank", name) for name in names]
    try:
        for each in roles:
            await each.start()
        ports = [
            settings.accounts_port,
            settings.balances_port,
            *[await metrics_port(each) for each in roles[2:]],
        ]
        for port in ports:
            await eventually(lambda port=port: lives(port), seconds=60)  # type: ignore[misc]
            for request in MALFORMED:
                for _ in range(3):
                    sent = await answer(port, closing(request))
                    assert not sent.startswith(b"HTTP/1.1 5"), (request, sent)
        for each in roles:
            assert "Traceback" not in each.log()
            await each.stop()
            assert KEY not in each.log()
            assert KEY.split("_", 2)[2] not in each.log()
            assert each.log().count("requests that are not HTTP were refused") == 1
    finally:
        for each in roles:
            await each.close()


def closing(request: str) -> bytes:
    return request.encode("latin-1").replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


async def metrics_port(role: Role) -> int:
    found = await eventually(lambda: re.findall(r"metrics on \S+:(\d+)/", role.log()), seconds=60)
    return int(found[0])
