"""A cancellation is passed on whenever it comes."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.cli import running
from pipeline.support import cancellation, event_loop
from pipeline.support.cancellation import Closable, close_all, close_opened, mend_wait_for
from tests.harness import eventually

Run = Callable[[Coroutine[Any, Any, bool]], bool | None]


@pytest.mark.parametrize("rounds", range(4))
async def test_one_that_comes_with_the_result_or_soon_after_it(rounds: int) -> None:
    """A reply and a signal wake the event loop together; on Python 3.11 it was lost for two rounds
    of the loop after the result."""
    reply = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        await asyncio.wait_for(reply, 30)
        await asyncio.sleep(30)

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    reply.set_result(None)
    for _ in range(rounds):
        await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait((asking,))
    assert asking.cancelled()


@pytest.mark.parametrize("timeout", [None, 30, 0.01, 0, -1])
async def test_a_result_or_a_timeout_as_ever(timeout: float | None) -> None:
    """Whoever is late is cancelled, and has ended when the timeout is raised."""
    ended = []

    async def late() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    done = asyncio.get_running_loop().create_future()
    done.set_result("answer")
    assert await asyncio.wait_for(done, timeout) == "answer"
    task = asyncio.create_task(late())
    await asyncio.sleep(0)
    if timeout is None or timeout == 30:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout)
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, timeout)
    assert task.cancelled()
    assert ended == [True]


async def test_with_no_time_at_all_nothing_is_begun() -> None:
    begun = []

    async def begin() -> None:
        begun.append(True)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(begin(), 0)
    assert begun == []


async def test_one_who_answers_although_it_is_late_is_heard() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "answer"
        return "never"

    assert await asyncio.wait_for(stubborn(), 0.01) == "answer"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="its own is sound")
@pytest.mark.parametrize("run", [running.run, running.run_role, event_loop.run])
def test_each_role_and_command_has_the_mended_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = asyncio.wait_for

    async def is_mended() -> bool:
        return asyncio.wait_for is asyncio.tasks.wait_for is mended

    for module in (asyncio, asyncio.tasks):
        monkeypatch.setattr(module, "wait_for", None)
    assert run(is_mended())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="its own is not sound")
def test_a_sound_one_stays() -> None:
    own = asyncio.wait_for
    mend_wait_for()
    assert asyncio.wait_for is own


async def test_all_that_runs_inside_a_block_has_ended_at_its_end() -> None:
    begun, ended = list[int](), list[int]()

    async def work(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def block() -> None:
        async with cancellation.running(work(1), work(2)):
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await block()
    assert begun == sorted(ended) == [1, 2]


async def test_what_fails_inside_a_block_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    async with cancellation.running(fail()):
        await eventually(lambda: "LookupError: lost" in caplog.text)


async def test_each_is_closed_whatever_comes_of_those_before_it() -> None:
    closed, begun = [], asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def broken() -> None:
        closed.append("broken")
        raise OSError("gone")

    async def quick() -> None:
        closed.append("quick")

    closing = asyncio.create_task(close_all(slow, quick, broken, quick))
    await begun.wait()
    closing.cancel()
    with pytest.raises(OSError, match="gone"):
        await closing
    assert closed == ["quick", "broken", "quick"]


@pytest.mark.parametrize("seconds", [0, 3600])
async def test_what_a_task_has_opened_by_now_is_closed(seconds: int) -> None:
    class Connection:
        closed = False

        async def close(self) -> None:
            self.closed = True

    connection = Connection()

    async def connect() -> Connection:
        await asyncio.sleep(seconds)
        return connection

    opening = asyncio.create_task(connect())
    await asyncio.wait((opening,), timeout=0.05)
    await close_opened(opening)
    assert opening.done()
    assert connection.closed == (seconds == 0)


async def test_one_that_could_open_nothing_is_passed_over() -> None:
    async def connect() -> Closable:
        raise OSError("refused")

    opening = asyncio.create_task(connect())
    await asyncio.wait((opening,))
    await close_opened(opening)
