"""What tests share: waiting with a deadline, roles as processes, rounds."""

import asyncio
import functools
import inspect
import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar, overload

import pytest

from pipeline.embedded.processes import Child, Children
from pipeline.eventstore import EventStore
from pipeline.support.settings import PREFIX, Settings, environment
from pipeline.testing import InMemoryEventStore

T = TypeVar("T")
AnyStore = EventStore | InMemoryEventStore
_Test = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the session's servers listen."""

    mongodb_url: str
    nats_url: str
    redis_url: str
    elasticsearch_url: str
    data_dir: Path


def rounds(short: int, full: int) -> int:
    """How often to repeat a drill: `full` in the long lane (BANK_TEST_LONG=1), else `short`."""
    return full if os.environ.get("BANK_TEST_LONG") == "1" else short


LONG_LANE: Final = pytest.mark.skipif(rounds(1, 0) == 1, reason="the long lane's")
"""Of a case whose siblings are enough for each change."""


def some_of(values: Iterable[str], *short: str) -> list[Any]:
    """Parameters of a test; those that are not in `short` are the long lane's."""
    return [each if each in short else pytest.param(each, marks=LONG_LANE) for each in values]


def cases(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[_Test], _Test]:
    """As `pytest.mark.parametrize`, but all in one test, on what its fixtures made once: for cases
    that leave that as it was, and take less time than to make it."""
    several = (names,) if isinstance(names, str) else names

    def decorated(test: _Test) -> _Test:
        @functools.wraps(test)
        async def every(**fixtures: Any) -> None:
            for each in values:
                case = dict(zip(several, (each,) if isinstance(names, str) else each, strict=True))
                try:
                    await test(**fixtures, **case)
                except Exception as error:
                    error.add_note(f"the case is {case}")
                    raise

        signature = inspect.signature(test)
        wanted = [each for name, each in signature.parameters.items() if name not in several]
        # pytest asks it which fixtures the test wants.
        vars(every)["__signature__"] = signature.replace(parameters=wanted)
        return every

    return decorated


@overload
async def eventually(
    check: Callable[[], Awaitable[T]],
    *,
    seconds: float = 120,
    message: str = "",
    every: float = 0.05,
) -> T: ...


@overload
async def eventually(
    check: Callable[[], T], *, seconds: float = 120, message: str = "", every: float = 0.05
) -> T: ...


async def eventually(
    check: Callable[[], Any], *, seconds: float = 120, message: str = "", every: float = 0.05
) -> Any:
    """Call `check` until what it returns (or awaits to) is truthy, and return that.

    An exception counts as "not yet". After `seconds`: AssertionError with the last of either.
    A check that takes long is followed by a pause as long, up to a second: it must not take from
    those whom it waits for.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object
        cause: Exception | None = None
        began = time.monotonic()
        try:
            answer = check()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last = value
        except Exception as error:
            last = cause = error
        took = time.monotonic() - began
        if began + took > deadline:
            name = message or getattr(check, "__name__", "condition")
            raise AssertionError(f"not within {seconds} s: {name}; last: {last!r}") from cause
        await asyncio.sleep(max(every, min(took, 1.0)))


class Role:
    """A role of the bank as a process of its own, with the given settings.

    `Role(settings, "bank", "forwarder")` or `Role(settings, "python", "-m", "api.accounts")`.
    An async context manager: started on entry, stopped on exit. `start` after its end starts it
    anew; `log()` is what all its lives printed. It never outlives the tests.
    """

    def __init__(self, settings: Settings, *command: str, **environ: str) -> None:
        programs = {
            "python": sys.executable,
            "bank": str(Path(sysconfig.get_path("scripts"), "bank")),
        }
        self.command = [programs.get(command[0], command[0]), *command[1:]]
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            **environment(settings),
            "PYTHONUNBUFFERED": "1",
            **environ,
        }
        self._children: Children | None = None
        self._child: Child | None = None
        handle, path = tempfile.mkstemp(prefix="bank-role-", suffix=".log")
        os.close(handle)
        self._log = Path(path)

    @property
    def pid(self) -> int:
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._child is not None, "not started"
        return self._child.exit_code

    def log(self) -> str:
        """Everything it printed so far."""
        return self._log.read_text(errors="replace")

    async def start(self) -> None:
        """Start it; does not wait until it is ready."""
        self._children = self._children or Children()
        self._child = self._children.start(
            self.command[-1], self.command, env=self.environ, log=self._log
        )

    async def wait(self, seconds: float = 120) -> int:
        """Wait until it ends by itself; returns the exit code."""
        assert self._child is not None, "not started"
        async with asyncio.timeout(seconds):
            return await self._child.wait()

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; with SIGKILL wait until it is gone, with SIGSTOP until it stands still."""
        assert self._child is not None, "not started"
        if number == signal.SIGSTOP:
            await self._child.pause()
        else:
            self._child.kill(number)
        if number == signal.SIGKILL:
            await self._child.wait()

    async def stop(self, seconds: float = 20) -> int:
        """End it in good order (SIGTERM), killed after `seconds`; returns the exit code."""
        assert self._child is not None, "not started"
        assert self._children is not None
        self._child.kill(signal.SIGCONT)
        return await self._children.stop(self._child, seconds)

    async def close(self) -> None:
        """Stop it if it runs, and drop its log."""
        if self._child is not None and self._children is not None:
            await self.stop()
            await self._children.close()
        self._log.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
