"""Child processes that never outlive this one.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches this process alone,
which then stops its children in order. If this process is killed, its guard (`guard.py`) ends them.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import IO

from pipeline.embedded import process_reaper
from pipeline.embedded.process_registry import Process, read_processes, register, unregister

__all__ = ["Child", "Children", "Process", "read_processes", "small_environment"]

STOP_SECONDS = 15.0
"""How long a child may take to end after SIGTERM before it is killed."""
_POLL_SECONDS = 0.02
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


def small_environment() -> dict[str, str]:
    """As much of our own environment as a server needs."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class Child:
    """One child process, made by `Children.start`. Any event loop may wait for it."""

    def __init__(self, process: subprocess.Popen[bytes], pump: Thread | None) -> None:
        self.pid = process.pid
        self._process = process
        self._pump = pump

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the number of the signal that ended it."""
        return self._process.poll()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child and to children of its own; no effect once it has ended."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def pause(self) -> None:
        """Stop it by SIGSTOP until a SIGCONT; returns when none of its threads runs any more."""
        self.kill(signal.SIGSTOP)
        while self.exit_code is None:
            if self._stands_still():
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """Wait until it has ended; returns the exit code."""
        while True:
            code = self.exit_code
            if code is not None:
                return code
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end, kill it if it has not after `seconds`; returns the exit code."""
        self.kill(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
        self.kill()
        code = await self.wait()
        if self._pump is not None:
            await asyncio.to_thread(self._pump.join, 1)
        return code

    def _stands_still(self) -> bool:
        with contextlib.suppress(ChildProcessError):  # it ended meanwhile
            asked = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, asked) is not None
        return False


class Children:
    """The children of this process, and the guard that ends them if this process can't.

    With `data_dir`, each child has an entry in `processes.json` until it is stopped or forgotten.
    `keep` are descriptors that stay open until the guard is done too, such as that of a lock.
    """

    def __init__(self, data_dir: Path | None = None, keep: Sequence[int] = ()) -> None:
        self._data_dir = data_dir
        self._children: list[Child] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(process_reaper.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=tuple(keep),
            env=small_environment(),
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
        """Start a child; raises OSError when its program can't be run.

        Its output is added to the file `log`, or goes line by line to `on_line`, which a thread
        calls, or else is ours. `env` is its whole environment; None gives it all of ours.
        """
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
        self._tell_guard(f"+{process.pid}")
        child = Child(process, _pump(process, on_line) if on_line else None)
        self._children.append(child)
        if self._data_dir is not None:
            register(self._data_dir, Process(role, child.pid, address))
        return child

    def forget(self, child: Child) -> None:
        """Drop a child that has ended from the guard's list and from `processes.json`."""
        if child in self._children:
            self._children.remove(child)
            self._tell_guard(f"-{child.pid}")
            if self._data_dir is not None:
                unregister(self._data_dir, child.pid)

    async def stop(self, child: Child, seconds: float = STOP_SECONDS) -> int:
        """Stop one child and forget it; returns its exit code."""
        code = await child.stop(seconds)
        self.forget(child)
        return code

    async def close(self, seconds: float = STOP_SECONDS) -> None:
        """Stop all at once within `seconds`, then the guard. Twice does nothing."""
        await asyncio.gather(*(self.stop(child, seconds) for child in self._children))
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()

    def _tell_guard(self, line: str) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()


def _pump(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> Thread:
    """Hand on a child's lines from a thread until its output ends."""

    def run() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r\n"))

    thread = Thread(target=run, name=f"lines of {process.pid}", daemon=True)
    thread.start()
    return thread
