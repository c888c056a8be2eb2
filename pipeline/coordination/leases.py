"""Leases in Redis: who may try. Correctness never rests on one, the fences are elsewhere.

A lease not renewed for `seconds` is free to take. While Redis is down the holder goes on and the
others wait.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from redis.exceptions import RedisError

from pipeline.coordination import driver
from pipeline.support.access import ServerAccess
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

FORWARDER: Final = "forwarder"
"""The lease of whoever forwards."""

# A key of another type, or one that would never go, is no lease: somebody's hand was there.
_RENEW: Final = """
local kind = redis.call('type', KEYS[1]).ok
if kind ~= 'none' and (kind ~= 'string' or redis.call('pttl', KEYS[1]) == -1) then
  redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
end
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0"""
_RELEASE: Final = """
if redis.call('type', KEYS[1]).ok == 'string' and redis.call('get', KEYS[1]) == ARGV[1] then
  return redis.call('del', KEYS[1])
end
return 0"""
_LONGEST_POLL: Final = 1.0
_LONGEST_TIMEOUT: Final = 2.0


class LeaseUnavailable(Exception):
    """Redis cannot be reached: nobody knows who holds the lease."""


def key_of(lease: str) -> str:
    """Where Redis keeps who has it."""
    return f"bank:lease:{lease}"


class Lease:
    """One lease for one owner. Every method but `close` may raise `LeaseUnavailable`.

    `held`: whether it was ours when Redis was last asked; `answers`: whether Redis did answer.
    """

    def __init__(self, at: ServerAccess | str, name: str, owner: str, seconds: float) -> None:
        self.name, self.owner, self.seconds = name, owner, seconds
        self.held = self.answers = False
        self._key = key_of(name)
        self._milliseconds = max(1, int(seconds * 1000))
        timeout = min(_LONGEST_TIMEOUT, seconds / 3)
        self._redis = driver.client(at, socket_timeout=timeout, socket_connect_timeout=timeout)
        self._last: asyncio.Task[Any] | None = None

    async def acquire(self) -> bool:
        """Take the lease if it is free; True if it is ours now."""
        command = partial(self._redis.set, self._key, self.owner, nx=True, px=self._milliseconds)
        self.held = bool(await self._answer(command)) or await self.renew()
        return self.held

    async def renew(self) -> bool:
        """Keep the lease for another `seconds`; False if it is not ours any more."""
        arguments = (self._key, self.owner, str(self._milliseconds))
        return bool(await self._answer(partial(self._redis.eval, _RENEW, 1, *arguments)))

    async def release(self) -> None:
        """Give the lease up, if it is ours."""
        self.held = False
        await self._answer(partial(self._redis.eval, _RELEASE, 1, self._key, self.owner))

    async def close(self) -> None:
        if self._last is not None:
            await asyncio.wait({self._last})
        await self._redis.aclose()

    async def _answer(self, command: Callable[[], Any]) -> Any:
        """One command after another; a cancelled caller leaves its command to end by itself.

        A release must not overtake an acquire that is under way, and a connection that is left
        in the middle of a command is lost.
        """
        self._last = asyncio.create_task(_after(self._last, command))
        self._last.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            answer = await asyncio.shield(self._last)
        except (RedisError, OSError) as error:
            self.answers = False
            raise LeaseUnavailable(str(error)) from error
        self.answers = True
        return answer


async def _after(before: asyncio.Task[Any] | None, command: Callable[[], Any]) -> Any:
    if before is not None:
        await asyncio.wait({before})
    return await command()


@asynccontextmanager
async def leading(lease: Lease) -> AsyncIterator[asyncio.Event]:
    """Wait for the lease, hold it in the block, give it up after.

    The event is set when somebody else has it; the block is not interrupted, for what it has
    begun is fenced and may end.
    """
    await _wait(lease)
    lost = asyncio.Event()
    keeper = asyncio.create_task(_keep(lease, lost))
    try:
        yield lost
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
        with suppress(LeaseUnavailable):
            await lease.release()


async def _wait(lease: Lease) -> None:
    every = min(_LONGEST_POLL, lease.seconds / 3)
    await _ask_until(True, lease, every, f"Waiting for the lease {lease.name}")


async def _keep(lease: Lease, lost: asyncio.Event) -> None:
    await _ask_until(False, lease, lease.seconds / 3, f"Keeping the lease {lease.name}")
    lost.set()


async def _ask_until(held: bool, lease: Lease, every: float, what: str) -> None:
    """Acquire again and again, until we hold the lease, or until we do not any more."""
    outage, attempt = Outage(log, what), 0
    while True:
        try:
            found = await lease.acquire()
        except LeaseUnavailable as error:
            await outage.pause(error, attempt)
            attempt += 1
            continue
        outage.over()
        attempt = 0
        if found == held:
            return
        await asyncio.sleep(every)
