"""Leases in Redis: who may try. Correctness never depends on one; the fences are elsewhere.

A lease that is not renewed for `seconds` is free to acquire. While Redis is down its holder goes on
and the others wait.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pipeline.coordination import driver
from pipeline.support.access import ServerAccess
from pipeline.support.cancellation import running
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

FORWARDER: Final = "forwarder"
"""The name of the lease of the leading forwarder."""

# A key of another type, or a lease without an expiry, was written by hand and would block everybody
# for ever: it is overwritten.
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
    """Redis does not answer: nobody knows who holds the lease."""


class LeaseClient:
    """The commands of one owner to Redis: each runs after the one before it has ended.

    `answers`: whether Redis answered the last one. `names`: of the application whose keys it uses.
    """

    def __init__(self, at: ServerAccess | str, owner: str, seconds: float, **options: Any) -> None:
        """`seconds`: how long a lease lasts without being renewed; `options` are the driver's."""
        self.owner, self.seconds = owner, seconds
        self.names = ServerAccess.of(at).names
        self.answers = False
        self.timeout = min(_LONGEST_TIMEOUT, seconds / 3)
        self._milliseconds = max(1, int(seconds * 1000))
        self._redis = driver.client(
            at,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            # The caller retries: the driver's own retries would take longer than a lease lasts.
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._last: asyncio.Task[Any] | None = None

    async def close(self) -> None:
        try:
            if self._last is not None:
                await asyncio.wait({self._last})
        finally:  # a Redis that hangs may take longer than who closes this waits
            await self._redis.aclose()

    async def _answer(self, command: Callable[[], Any]) -> Any:
        """Run a command; raises `LeaseUnavailable`."""
        # A cancelled caller leaves its command to end by itself: redis-py may lose a cancellation,
        # and a connection that is abandoned in the middle of a command is lost. No later command
        # overtakes it: a release must come after an acquire or a renewal that is under way.
        self._last = asyncio.create_task(self._run_after(self._last, command))
        self._last.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            answer = await asyncio.shield(self._last)
        except (RedisError, OSError) as error:
            self.answers = False
            raise LeaseUnavailable(str(error) or "no answer") from error
        self.answers = True
        return answer

    async def _run_after(self, before: asyncio.Task[Any] | None, command: Callable[[], Any]) -> Any:
        if before is not None:
            await asyncio.wait({before})
        try:
            return await command()
        except RedisError:
            # The server at the other end may not be the one that the URL leads to by now: one that
            # became a replica, or that loads its data, answers with an error each time and keeps
            # the connection. The next command connects anew, to where the name leads then.
            await self._redis.connection_pool.disconnect()
            raise


class Lease(LeaseClient):
    """One lease for one owner. Every method but `close` may raise `LeaseUnavailable`.

    `held`: whether it was ours when Redis last answered.
    """

    def __init__(self, at: ServerAccess | str, name: str, owner: str, seconds: float) -> None:
        super().__init__(at, owner, seconds)
        self.name, self.held = name, False
        self._key = self.names.lease(name)

    async def acquire(self) -> bool:
        """Acquire the lease if it is free; True if it is ours now."""
        command = partial(self._redis.set, self._key, self.owner, nx=True, px=self._milliseconds)
        self.held = bool(await self._answer(command)) or await self.renew()
        return self.held

    async def renew(self) -> bool:
        """Keep the lease for another `seconds`; False if it is not ours any more."""
        arguments = (self._key, self.owner, str(self._milliseconds))
        return bool(await self._answer(partial(self._redis.eval, _RENEW, 1, *arguments)))

    async def release(self) -> None:
        """Release the lease, if it is ours."""
        self.held = False
        await self._answer(partial(self._redis.eval, _RELEASE, 1, self._key, self.owner))


@asynccontextmanager
async def leading(lease: Lease) -> AsyncIterator[asyncio.Event]:
    """Wait for the lease, hold it in the block, release it after.

    The event is set when another owner has it. The block is not interrupted then: what it has
    begun is fenced, and may end.
    """
    poll = min(_LONGEST_POLL, lease.seconds / 3)
    await _poll_until(True, lease, poll, f"Waiting for the lease {lease.name}")
    lost = asyncio.Event()
    try:
        async with running(_keep(lease, lost)):
            yield lost
    finally:
        with suppress(LeaseUnavailable):
            await lease.release()


async def _keep(lease: Lease, lost: asyncio.Event) -> None:
    await _poll_until(False, lease, lease.seconds / 3, f"Keeping the lease {lease.name}")
    lost.set()


async def _poll_until(held: bool, lease: Lease, seconds: float, what: str) -> None:
    """Acquire again and again, until we hold the lease, or until we do not any more."""
    outage = Outage(log, what)
    while await outage.retry_forever(lease.acquire, LeaseUnavailable) != held:  # noqa: ASYNC110
        await asyncio.sleep(seconds)  # Redis sends no event
