"""The leases of the partitions in Redis, and who is alive: one round trip for all of them.

A worker is alive until `seconds` after its last beat, by the clock of Redis. Who is not any more
is remembered for some minutes, as who said goodbye is (`roll.py`). Redis may forget all of it at
any moment; `View.began` tells that it has.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from ulid import ULID

from pipeline.coordination import driver
from pipeline.coordination.leases import LeaseUnavailable
from pipeline.support.access import ServerAccess

_PREFIX: Final = "bank:{partitions}:"  # one hash slot, so that a cluster runs the scripts too
_LONGEST_TIMEOUT: Final = 2.0

REMEMBERED: Final = 600.0
"""Seconds for which a worker that is not there any more is remembered."""

# A key of another type, a lease that would never end and a beat that is yet to come are nobody's:
# somebody's hand was there.
_TIDY: Final = """
local function tidy(key, kind)
  local there = redis.call('type', key).ok
  if there == 'none' then return end
  if there ~= kind or (kind == 'string' and key ~= KEYS[2] and redis.call('pttl', key) == -1) then
    redis.call('del', key)
  end
end
for i = 2, #KEYS do tidy(KEYS[i], 'string') end
tidy(KEYS[1], 'zset')
"""
# ARGV: me, milliseconds, then the partitions that I hold: of these, what Redis forgot is mine again
_BEAT: Final = (
    _TIDY
    + """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('set', KEYS[2], string.format('%.0f', now), 'nx')
local least = '(' .. string.format('%.0f', now - ARGV[2])
redis.call('zremrangebyscore', KEYS[1], '-inf', now - math.max(ARGV[2], REMEMBERED))
redis.call('zremrangebyscore', KEYS[1], now + ARGV[2], '+inf')
redis.call('zadd', KEYS[1], now, ARGV[1])
for i = 3, #ARGV do
  redis.call('set', KEYS[ARGV[i] + 3], ARGV[1], 'nx', 'px', ARGV[2])
end
local owners = {}
for i = 3, #KEYS do
  owners[i - 2] = redis.call('get', KEYS[i])
  if owners[i - 2] == ARGV[1] then redis.call('pexpire', KEYS[i], ARGV[2]) end
end
return {redis.call('get', KEYS[2]), redis.call('zrangebyscore', KEYS[1], least, '+inf'), owners}
""".replace("REMEMBERED", str(int(REMEMBERED * 1000)))
)
# ARGV: me, milliseconds, then the partitions
_TAKE: Final = """
local taken = {}
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('set', key, ARGV[1], 'nx', 'px', ARGV[2]) then taken[#taken + 1] = ARGV[i] end
end
return taken"""
_GIVE: Final = (
    _TIDY
    + """
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end"""
)
_LOOK: Final = """
local time = redis.call('time')
local least = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
return {redis.call('get', KEYS[2]), redis.call('zrangebyscore', KEYS[1], least, '+inf'),
        redis.call('mget', unpack(KEYS, 3))}"""
# KEYS: who beats, who said goodbye; ARGV: me
_GOODBYE: Final = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('zrem', KEYS[1], ARGV[1])
if redis.call('type', KEYS[2]).ok ~= 'zset' then redis.call('del', KEYS[2]) end
redis.call('zremrangebyscore', KEYS[2], '-inf', now - REMEMBERED)
redis.call('zadd', KEYS[2], now, ARGV[1])
redis.call('pexpire', KEYS[2], REMEMBERED)""".replace("REMEMBERED", str(int(REMEMBERED * 1000)))


def owner_named(name: str) -> str:
    """An owner that no other process is, whatever their names."""
    return f"{name}.{ULID()}"


def name_of(owner: str) -> str:
    """The name that an owner was given: what people see."""
    return owner.rpartition(".")[0] or owner


@dataclass(frozen=True, slots=True)
class View:
    """What Redis knows: `owners[p]` has partition p. `began` changes when it has forgotten all."""

    began: str
    workers: frozenset[str]
    owners: tuple[str | None, ...]

    def of(self, owner: str) -> frozenset[int]:
        """The partitions that are the owner's."""
        return frozenset(p for p, each in enumerate(self.owners) if each == owner)


class PartitionLeases:
    """The leases as one worker, `owner`, sees and changes them.

    Every method but `close` may raise `LeaseUnavailable`; all may be repeated.
    """

    def __init__(self, at: ServerAccess | str, owner: str, seconds: float) -> None:
        self.owner, self.seconds = owner, seconds
        self.timeout = min(_LONGEST_TIMEOUT, seconds / 3)
        # Retries are the caller's: the driver's own would take longer than a lease lasts.
        self._redis = driver.client(
            at,
            decode_responses=True,
            encoding_errors="replace",
            retry=Retry(NoBackoff(), 0),
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
        )
        self._last: asyncio.Task[Any] | None = None

    async def beat(self, partitions: int, held: Collection[int]) -> View:
        """Stay alive, renew every lease that is ours, and take back what Redis has forgotten."""
        return _view(await self._run(_BEAT, partitions, held))

    async def acquire(self, partitions: int, wanted: Iterable[int]) -> frozenset[int]:
        """Take those that are free; returns the ones taken."""
        return frozenset(int(p) for p in await self._run(_TAKE, partitions, wanted))

    async def give(self, partitions: int, surplus: Iterable[int]) -> None:
        """Give leases back, those that are ours."""
        await self._run(_GIVE, partitions, surplus)

    async def leave(self, partitions: int) -> None:
        """Give everything back and be a worker no more."""
        await self._run(_GIVE, partitions, range(partitions))
        await self._noted(_GOODBYE, self.owner)

    async def look(self, partitions: int) -> View:
        """See who is there and who has what, and change nothing."""
        return _view(await self._run(_LOOK, partitions, ()))

    async def close(self) -> None:
        if self._last is not None:
            await asyncio.wait({self._last})
        await self._redis.aclose()

    async def _run(self, script: str, partitions: int, chosen: Iterable[int]) -> Any:
        keys = [_PREFIX + name for name in ("workers", "began", *map(str, range(partitions)))]
        milliseconds = max(1, int(self.seconds * 1000))
        arguments = [self.owner, str(milliseconds), *map(str, chosen)]
        return await self._answer(partial(self._redis.eval, script, len(keys), *keys, *arguments))

    async def _noted(self, script: str, *arguments: str) -> Any:
        keys = [_PREFIX + name for name in ("workers", "left")]
        return await self._answer(partial(self._redis.eval, script, len(keys), *keys, *arguments))

    async def _answer(self, command: Callable[[], Any]) -> Any:
        # A cancelled caller leaves its command to end by itself, and no later one overtakes it:
        # redis-py may lose a cancellation, and a `leave` must come after a beat on its way.
        self._last = asyncio.create_task(_after(self._last, command))
        self._last.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(self._last)
        except (RedisError, OSError, TimeoutError) as error:
            raise LeaseUnavailable(str(error) or "no answer") from error


async def _after(before: asyncio.Task[Any] | None, command: Callable[[], Any]) -> Any:
    if before is not None:
        await asyncio.wait({before})
    return await command()


def _view(answer: Any) -> View:
    began, workers, owners = answer
    return View(began or "", frozenset(workers), tuple(owners))
