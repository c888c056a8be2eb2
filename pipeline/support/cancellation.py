"""Cancellation that can't be swallowed, from outside a task and within it."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Closable(Protocol):
    """A connection."""

    async def close(self) -> None: ...


def mend_wait_for() -> None:
    """Before Python 3.12, put a sound `asyncio.wait_for` in the place of its own.

    That one swallows a cancellation that comes up to two rounds of the event loop after the result,
    as a signal or a lost lease does that wakes the loop together with a reply. nats-py waits by it
    for every reply, Faust and mode for most else: their tasks would go on for ever.
    """
    if sys.version_info < (3, 12):
        asyncio.wait_for = asyncio.tasks.wait_for = _wait_for  # type: ignore[assignment]


async def _wait_for(awaitable: Awaitable[T], timeout: float | None) -> T:
    """Like `asyncio.wait_for` of Python 3.12. At a timeout of 0 a coroutine is not even begun."""
    if timeout is None or timeout > 0:
        async with asyncio.timeout(timeout):
            return await awaitable
    future = asyncio.ensure_future(awaitable)
    if future.done():
        return future.result()
    future.cancel()
    await asyncio.wait((future,))
    try:
        return future.result()
    except asyncio.CancelledError:
        raise TimeoutError from None


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, whatever its outcome.

    It cancels until then: drivers swallow cancellations, as nats-py does where it closes.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)


async def close_opened(opening: asyncio.Task[Closable]) -> None:
    """End a task that opens a connection, and close what it has opened."""
    await cancel_and_wait(opening)
    if not opening.cancelled() and not opening.exception():
        await opening.result().close()


async def close_all(*closings: Callable[[], Awaitable[None]]) -> None:
    """Call each in this order, whatever comes of those before it; then raise what the last one to
    fail raised.

    A task that is cancelled while it closes one connection, as `cancel_and_wait` does, leaves no
    other one open.
    """
    async with AsyncExitStack() as stack:
        for each in reversed(closings):
            stack.push_async_callback(each)


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run each as a task inside the block; all are cancelled, and have ended, at its end.

    One that fails is logged at once: nobody waits for it, and the block goes on without it.
    """
    tasks = [asyncio.create_task(each) for each in work]
    for each in tasks:
        each.add_done_callback(_log_failure)
    try:
        yield
    finally:
        await asyncio.gather(*map(cancel_and_wait, tasks))


def _log_failure(task: asyncio.Task[object]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("A task that was to run as long as its block has failed", exc_info=error)


def raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and something has swallowed that.

    See `cancel_and_wait`.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
