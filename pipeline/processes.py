"""Child processes that never outlive this one, and `processes.json`, which says what runs where.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches this process alone, which then
stops its children in order. If this process is killed instead, its guard (`guard.py`) ends them.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from pipeline import guard

REGISTRY = "processes.json"
_POLL = 0.02
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True)
class Process:
    """One entry of `processes.json`; `address` is a URL, or empty for a process that listens nowhere."""

    role: str
    pid: int
    address: str


def read_processes(data_dir: Path) -> list[Process]:
    """The processes that the folder's registry names and that live, in the order they were started."""
    try:
        entries = json.loads((data_dir / REGISTRY).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [process for process in (Process(**entry) for entry in entries) if alive(process.pid)]


def register(data_dir: Path, process: Process) -> None:
    """Add a process to the folder's registry."""
    with _registry(data_dir) as processes:
        processes.append(process)


def unregister(data_dir: Path, pid: int) -> None:
    """Take a process out of the folder's registry."""
    with _registry(data_dir) as processes:
        processes[:] = [process for process in processes if process.pid != pid]


@contextlib.contextmanager
def _registry(data_dir: Path) -> Iterator[list[Process]]:
    """Read, change, write: one writer at a time, and readers see the old file or the new one."""
    with (data_dir / f"{REGISTRY}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = read_processes(data_dir)
        yield processes
        draft = data_dir / f"{REGISTRY}.new"
        draft.write_text(json.dumps([asdict(process) for process in processes], indent=1) + "\n")
        draft.replace(data_dir / REGISTRY)


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def small_environment() -> dict[str, str]:
    """What a server needs of our own environment."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class Child:
    """One child process, started and reaped by `Children`."""

    def __init__(self, role: str, process: subprocess.Popen[bytes], pump: Thread | None) -> None:
        self.role = role
        self.pid = process.pid
        self._process = process
        self._pump = pump

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child and its own children; nothing happens once it has ended."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self) -> int:
        """Wait until it ends, from any event loop; returns the exit code."""
        while True:
            code = self.exit_code
            if code is not None:
                return code
            await asyncio.sleep(_POLL)

    async def stop(self, seconds: float = 15.0) -> int:
        """Ask it to end, kill it when it has not within `seconds`; returns the exit code."""
        self.kill(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
        self.kill()
        code = await self.wait()
        if self._pump is not None:
            self._pump.join(timeout=1)
        return code


class Children:
    """The children of this process. `close` stops them, the last started first; none outlives us.

    With `data_dir`, each child has an entry in `processes.json` from its start until it was seen to end.
    `keep` are descriptors that stay open until the guard is done too, such as that of a lock.
    """

    def __init__(self, data_dir: Path | None = None, keep: Sequence[int] = ()) -> None:
        self._data_dir = data_dir
        self._children: list[Child] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guard.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=tuple(keep),
            env={},
        )

    def start(
        self,
        role: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        address: str = "",
    ) -> Child:
        """Start a child. Its output is added to the file `log`, or given line by line to `on_line` (called
        in a thread), or is ours. `env` is its whole environment (ours when None). Raises OSError."""
        with contextlib.ExitStack() as stack:
            output: IO[bytes] | int | None = subprocess.PIPE if on_line else None
            if log is not None:
                output = stack.enter_context(log.open("ab"))
            process = subprocess.Popen(
                [str(word) for word in command],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell(f"+{process.pid}")
        pump = _pump(process, on_line) if on_line else None
        child = Child(role, process, pump)
        self._children.append(child)
        if self._data_dir is not None:
            register(self._data_dir, Process(role, child.pid, address))
        return child

    def forget(self, child: Child) -> None:
        """Call when a child has ended and will not be closed with the rest."""
        if child in self._children:
            self._children.remove(child)
            self._tell(f"-{child.pid}")
            if self._data_dir is not None:
                unregister(self._data_dir, child.pid)

    async def stop(self, child: Child, seconds: float = 15.0) -> int:
        """Stop one child and forget it; returns its exit code."""
        code = await child.stop(seconds)
        self.forget(child)
        return code

    async def close(self, seconds: float = 15.0) -> None:
        """Stop all of them, the last started first, then the guard. Calling it again does nothing."""
        deadline = time.monotonic() + seconds
        for child in reversed(self._children.copy()):
            await self.stop(child, max(0.0, deadline - time.monotonic()))
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()
        self._guard.wait()

    def _tell(self, line: str) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()


def _pump(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> Thread:
    """Hand on a child's lines from a thread, until its output ends."""

    def run() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r\n"))

    thread = Thread(target=run, name=f"lines of {process.pid}", daemon=True)
    thread.start()
    return thread
