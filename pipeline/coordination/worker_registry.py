"""Which workers are alive, which left, and which died or are cut off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple

from pipeline.coordination.partition_leases import REMEMBERED, PartitionLeases, name_of
from pipeline.support.logs import moment

State = Literal["here", "left", "lost"]

_READ_REGISTRY: Final = """
local time = redis.call('time')
return {time[1] * 1000 + math.floor(time[2] / 1000),
        redis.call('zrange', KEYS[1], 0, -1, 'withscores'),
        redis.call('zrange', KEYS[2], 0, -1, 'withscores')}"""


class WorkerRegistry(NamedTuple):
    """In milliseconds of Redis' own clock: the time now, the last heartbeat of each worker that did
    not leave, and when the others left."""

    now: int
    beats: Mapping[str, int]
    left: Mapping[str, int]


class RegistryReader(PartitionLeases):
    """Reads the registry and single leases."""

    async def registry(self) -> WorkerRegistry:
        """The live workers, and those of the last minutes."""
        now, beats, left = await self._run_registry(_READ_REGISTRY)
        return WorkerRegistry(int(now), _scores(beats), _scores(left))

    async def holder(self, lease: str) -> str | None:
        """The owner of a lease that is not a partition's, such as the forwarders'; None if free."""
        found: str | None = await self._answer(partial(self._redis.get, self.names.lease(lease)))
        return found


@dataclass(frozen=True, slots=True)
class Worker:
    """`here`: its registration is valid; `left`: it signed off; `lost`: its registration ran out
    without that, because it was killed, stands still or is cut off.

    `seen` is the RFC 3339 time of its last heartbeat or of its leaving, `partitions` those whose
    leases it holds.
    """

    name: str
    state: State
    partitions: list[int]
    seen: str


def workers(
    registry: WorkerRegistry, seconds: float, owned: Mapping[str, list[int]]
) -> list[Worker]:
    """Every worker once, by name, in its latest state: a restarted worker may keep its name.

    A registration is valid for so many `seconds`; `owned` has the partitions by name.
    """
    oldest, forgotten = registry.now - seconds * 1000, registry.now - REMEMBERED * 1000
    seen: dict[str, tuple[int, State]] = {}
    marks: list[tuple[str, int, State]] = [
        *((who, at, "left") for who, at in registry.left.items()),
        *((who, at, "here" if at >= oldest else "lost") for who, at in registry.beats.items()),
    ]
    for who, at, state in marks:
        if at >= min(oldest, forgotten):
            seen[name_of(who)] = max(seen.get(name_of(who), (0, state)), (at, state))
    return [
        Worker(name, state, owned.get(name, []), moment(at / 1000))
        for name, (at, state) in sorted(seen.items())
    ]


def _scores(answer: Sequence[str]) -> dict[str, int]:
    """From a sorted set's reply: members and scores alternate."""
    return {who: int(float(score)) for who, score in zip(answer[::2], answer[1::2], strict=True)}
