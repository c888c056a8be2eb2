"""Starts and stops child processes that never outlive this process.

Each child leads its own session, so that Ctrl-C in the terminal reaches only this process, which
then stops its children in order. If this process is killed, the process reaper ends the children.
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
"""Seconds that a child has to end after SIGTERM before it is killed."""
_POLL_SECONDS = 0.02
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


def small_environment() -> dict[str, str]:
    """The part of this process's environment that a server needs."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class Child:
    """One child process, created by `Children.start`. Any event loop may wait for it."""

    def __init__(self, process: subprocess.Popen[bytes], pump: Thread | None) -> None:
        self.pid = process.pid
        self._process = process
        self._pump = pump

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a negative code is the signal that ended it, negated."""
        return self._process.poll()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child's process group; no effect once the child has ended."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def pause(self) -> None:
        """Stop it with SIGSTOP; return when the kernel has stopped all of its threads."""
        self.kill(signal.SIGSTOP)
        while self.exit_code is None:
            if self._stands_still():
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        if self.exit_code is None:
            await _told_of_end(self.pid)
        while True:
            code = self.exit_code
            if code is not None:
                return code
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Send SIGTERM, and SIGKILL after `seconds`; return the exit code."""
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
        with contextlib.suppress(ChildProcessError):  # it has ended
            # WNOWAIT leaves the status, so that another call sees a stopped child as well.
            asked = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, asked) is not None
        return False


class Children:
    """The children of this process, and the process reaper that ends them if this process dies.

    With `data_dir`, each child has an entry in `processes.json` until it is stopped or forgotten.
    The reaper inherits the descriptors `keep`, such as that of a lock, which stays locked until
    the reaper has ended the children. At the end, whatever it is, it deletes the folder `theirs`.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        keep: Sequence[int] = (),
        theirs: Path | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._children: list[Child] = []
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", process_reaper.__file__, *([theirs] if theirs else [])],
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
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start a child; raises OSError if its program can't be run.

        Its output is appended to the file `log`, or passed line by line to `on_line`, which a
        thread calls; with neither, the child inherits ours. `env` is its whole environment; with
        None it inherits ours. It inherits the descriptors `pass_fds` as well.
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
                pass_fds=tuple(pass_fds),
            )
        # First of all: a child that the reaper does not know would outlive this process.
        self._write_reaper(f"+{process.pid}")
        child = Child(process, _pump(process, on_line) if on_line else None)
        self._children.append(child)
        if self._data_dir is not None:
            register(self._data_dir, Process(role, child.pid, address))
        return child

    def forget(self, child: Child) -> None:
        """Remove a child that has ended from the reaper's list and from `processes.json`.

        Only after its end: until then the reaper must know it, and afterwards its pid may be
        reused, so that the reaper could kill another process.
        """
        if child in self._children:
            self._children.remove(child)
            self._write_reaper(f"-{child.pid}")
            if self._data_dir is not None:
                unregister(self._data_dir, child.pid)

    async def stop(self, child: Child, seconds: float = STOP_SECONDS) -> int:
        """Stop one child and forget it; return its exit code."""
        code = await child.stop(seconds)
        self.forget(child)
        return code

    async def close(self, seconds: float = STOP_SECONDS) -> None:
        """Stop all children concurrently within `seconds`, then the reaper. May be called again.

        The reaper last: at the end of its input it would end children that are still stopping.
        """
        await asyncio.gather(*(self.stop(child, seconds) for child in self._children))
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait()

    def _write_reaper(self, line: str) -> None:
        assert self._reaper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._reaper.stdin.write(f"{line}\n".encode())
            self._reaper.stdin.flush()


async def _told_of_end(pid: int) -> None:
    """Wait until a child has ended, without waking up meanwhile; return at once where the system
    can't tell."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # it has just ended, or a sandbox forbids it
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _pump(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> Thread:
    """Pass a child's lines to `on_line` from a thread until its output ends."""

    def run() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r\n"))

    thread = Thread(target=run, name=f"lines of {process.pid}", daemon=True)
    thread.start()
    return thread
