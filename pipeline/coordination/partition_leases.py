"""The leases of the partitions in Redis, and which workers are alive: one round trip for all.

A worker is alive until `seconds` after its last heartbeat, by the clock of Redis. One that died or
left is remembered for some minutes (`worker_registry.py`). Redis may lose all of it at any moment;
then `View.began` changes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ulid import ULID

from pipeline.coordination.leases import LeaseClient
from pipeline.support.access import ServerAccess

REMEMBERED: Final = 600.0
"""Seconds for which a worker that died or left is remembered."""

# A key of another type, a lease without an expiry and a heartbeat in the future were written by
# hand: they are deleted, or they would block their partition or count as a live worker for ever.
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
# ARGV: the owner, milliseconds, then the partitions it holds: those that Redis lost are set again
# All times are those of Redis, because the clocks of workers differ.
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
# ARGV: the owner, milliseconds, then the partitions
_ACQUIRE: Final = """
local acquired = {}
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('set', key, ARGV[1], 'nx', 'px', ARGV[2]) then acquired[#acquired + 1] = ARGV[i] end
end
return acquired"""
_RELEASE: Final = (
    _TIDY
    + """
for i = 3, #ARGV do
  local key = KEYS[ARGV[i] + 3]
  if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end"""
)
_READ: Final = """
local time = redis.call('time')
local least = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
return {redis.call('get', KEYS[2]), redis.call('zrangebyscore', KEYS[1], least, '+inf'),
        redis.call('mget', unpack(KEYS, 3))}"""
# KEYS: the live workers, those that left; ARGV: the owner
_LEAVE: Final = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('zrem', KEYS[1], ARGV[1])
if redis.call('type', KEYS[2]).ok ~= 'zset' then redis.call('del', KEYS[2]) end
redis.call('zremrangebyscore', KEYS[2], '-inf', now - REMEMBERED)
redis.call('zadd', KEYS[2], now, ARGV[1])
redis.call('pexpire', KEYS[2], REMEMBERED)""".replace("REMEMBERED", str(int(REMEMBERED * 1000)))


def owner_named(name: str) -> str:
    """An owner's id, unique to this process even where names are the same."""
    return f"{name}.{ULID()}"


def name_of(owner: str) -> str:
    """The name in an owner's id, which people see."""
    return owner.rpartition(".")[0] or owner


@dataclass(frozen=True, slots=True)
class View:
    """What Redis knows: `owners[p]` holds partition p. `began` changes when Redis has lost all."""

    began: str
    workers: frozenset[str]
    owners: tuple[str | None, ...]

    def of(self, owner: str) -> frozenset[int]:
        """The partitions whose leases the owner holds."""
        return frozenset(p for p, each in enumerate(self.owners) if each == owner)


class PartitionLeases(LeaseClient):
    """The leases as one worker, `owner`, sees and changes them.

    Every method but `close` may raise `LeaseUnavailable`; all may be repeated.
    """

    def __init__(self, at: ServerAccess | str, owner: str, seconds: float) -> None:
        super().__init__(at, owner, seconds, decode_responses=True, encoding_errors="replace")

    async def beat(self, partitions: int, held: Collection[int]) -> View:
        """Stay alive, renew the leases we hold, and set again those that Redis has lost."""
        return _view(await self._run(_BEAT, partitions, held))

    async def acquire(self, partitions: int, wanted: Iterable[int]) -> frozenset[int]:
        """Acquire those that are free; returns the ones acquired."""
        return frozenset(int(p) for p in await self._run(_ACQUIRE, partitions, wanted))

    async def release(self, partitions: int, surplus: Iterable[int]) -> None:
        """Release those of the leases that are ours."""
        await self._run(_RELEASE, partitions, surplus)

    async def leave(self, partitions: int) -> None:
        """Release every lease, and stop being a live worker."""
        await self._run(_RELEASE, partitions, range(partitions))
        await self._run_registry(_LEAVE, self.owner)

    async def read(self, partitions: int) -> View:
        """Read who is alive and who holds what; changes nothing."""
        return _view(await self._run(_READ, partitions, ()))

    async def _run(self, script: str, partitions: int, chosen: Iterable[int]) -> Any:
        names = ("workers", "began", *map(str, range(partitions)))
        return await self._eval(script, names, (self.owner, self._milliseconds, *chosen))

    async def _run_registry(self, script: str, *arguments: str) -> Any:
        return await self._eval(script, ("workers", "left"), arguments)

    async def _eval(
        self, script: str, names: Collection[str], arguments: Iterable[str | int]
    ) -> Any:
        keys = [self.names.worker_key(name) for name in names]
        return await self._answer(
            partial(self._redis.eval, script, len(keys), *keys, *map(str, arguments))
        )


def _view(answer: Any) -> View:
    began, workers, owners = answer
    return View(began or "", frozenset(workers), tuple(owners))
