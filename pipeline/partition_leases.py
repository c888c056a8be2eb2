"""The leases of the partitions in Redis, and who is alive: one round trip for all of them.

A worker is alive until `seconds` after its last beat, by the clock of Redis. Redis may forget all
of it at any moment; `View.began` tells that it has.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from ulid import ULID

from pipeline.leases import LeaseUnavailable

_PREFIX: Final = "bank:{partitions}:"  # one hash slot, so that a cluster runs the scripts too
_LONGEST_TIMEOUT: Final = 2.0

# ARGV: me, milliseconds, then the partitions that I hold: of these, what Redis forgot is mine again
_BEAT: Final = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('set', KEYS[2], string.format('%.0f', now), 'nx')
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[2])
redis.call('zadd', KEYS[1], now, ARGV[1])
for i = 3, #ARGV do
  redis.call('set', KEYS[ARGV[i] + 3], ARGV[1], 'nx', 'px', ARGV[2])
end
local owners = {}
for i = 3, #KEYS do
  owners[i - 2] = redis.call('get', KEYS[i])
  if owners[i - 2] == ARGV[1] then redis.call('pexpire', KEYS[i], ARGV[2]) end
end
return {redis.call('get', KEYS[2]), redis.call('zrange', KEYS[1], 0, -1), owners}"""
# ARGV: me, milliseconds, then the partitions
_TAKE: Final = """
local taken = {}
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('set', key, ARGV[1], 'nx', 'px', ARGV[2]) then taken[#taken + 1] = ARGV[i] end
end
return taken"""
_GIVE: Final = """
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end"""
_LOOK: Final = """
local time = redis.call('time')
local least = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
return {redis.call('get', KEYS[2]), redis.call('zrangebyscore', KEYS[1], least, '+inf'),
        redis.call('mget', unpack(KEYS, 3))}"""
_FORGET_ME: Final = "return redis.call('zrem', KEYS[1], ARGV[1])"


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

    def __init__(self, redis_url: str, owner: str, seconds: float) -> None:
        self.owner, self.seconds = owner, seconds
        self.timeout = min(_LONGEST_TIMEOUT, seconds / 3)
        # Retries are the caller's: the driver's own would take longer than a lease lasts.
        self._redis = redis.asyncio.Redis.from_url(
            redis_url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
        )
        self._last: asyncio.Task[Any] | None = None

    async def beat(self, partitions: int, held: Collection[int]) -> View:
        """Stay alive, renew every lease that is ours, and take back what Redis has forgotten."""
        return _view(await self._run(_BEAT, partitions, held))

    async def take(self, partitions: int, wanted: Iterable[int]) -> frozenset[int]:
        """Take those that are free; returns the ones taken."""
        return frozenset(int(p) for p in await self._run(_TAKE, partitions, wanted))

    async def give(self, partitions: int, surplus: Iterable[int]) -> None:
        """Give leases back, those that are ours."""
        await self._run(_GIVE, partitions, surplus)

    async def leave(self, partitions: int) -> None:
        """Give everything back and be a worker no more."""
        await self._run(_GIVE, partitions, range(partitions))
        await self._run(_FORGET_ME, partitions, ())

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
        # A cancelled caller leaves its command to end by itself, and no later one overtakes it:
        # redis-py may lose a cancellation, and a `leave` must come after a beat on its way.
        self._last = asyncio.create_task(self._after(self._last, script, keys, arguments))
        self._last.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(self._last)
        except (RedisError, OSError, TimeoutError) as error:
            raise LeaseUnavailable(str(error) or "no answer") from error

    async def _after(
        self,
        before: asyncio.Task[Any] | None,
        script: str,
        keys: list[str],
        arguments: list[str],
    ) -> Any:
        if before is not None:
            await asyncio.wait({before})
        return await self._redis.eval(script, len(keys), *keys, *arguments)


def _view(answer: Any) -> View:
    began, workers, owners = answer
    return View(began or "", frozenset(workers), tuple(owners))
