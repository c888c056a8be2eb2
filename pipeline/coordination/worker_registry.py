"""Who works: the workers that are there, those that said goodbye, and those that fell silent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple

from pipeline.coordination.leases import key_of
from pipeline.coordination.partition_leases import REMEMBERED, PartitionLeases, name_of
from pipeline.support.logs import moment

State = Literal["here", "left", "lost"]

_ROLL: Final = """
local time = redis.call('time')
return {time[1] * 1000 + math.floor(time[2] / 1000),
        redis.call('zrange', KEYS[1], 0, -1, 'withscores'),
        redis.call('zrange', KEYS[2], 0, -1, 'withscores')}"""


class WorkerRegistry(NamedTuple):
    """In milliseconds of Redis' own clock: what it shows now, the last beat of each worker that
    said no goodbye, and when the others said it."""

    now: int
    beats: Mapping[str, int]
    goodbyes: Mapping[str, int]


class Caller(PartitionLeases):
    """Calls the roll."""

    async def roll(self) -> WorkerRegistry:
        """Who works, and who did so a while ago."""
        now, beats, goodbyes = await self._noted(_ROLL)
        return WorkerRegistry(int(now), _scores(beats), _scores(goodbyes))

    async def holder(self, lease: str) -> str | None:
        """Who has a lease that is none of a partition, such as the forwarders'; None: nobody."""
        found: str | None = await self._answer(partial(self._redis.get, key_of(lease)))
        return found


@dataclass(frozen=True, slots=True)
class Worker:
    """`here`: its registration holds; `left`: it said goodbye; `lost`: its registration ran out
    without one, for it was killed, stands still or is cut off.

    `seen` is the RFC 3339 time of its last beat or of its goodbye, `partitions` those whose lease
    it holds.
    """

    name: str
    state: State
    partitions: list[int]
    seen: str


def workers(roll: WorkerRegistry, seconds: float, owned: Mapping[str, list[int]]) -> list[Worker]:
    """Everybody, once, by name: as he was seen last, for a worker that is started anew may have the
    name of the one before. A registration holds for so many `seconds`; `owned` is by name."""
    oldest, forgotten = roll.now - seconds * 1000, roll.now - REMEMBERED * 1000
    seen: dict[str, tuple[int, State]] = {}
    marks: list[tuple[str, int, State]] = [
        *((who, at, "left") for who, at in roll.goodbyes.items()),
        *((who, at, "here" if at >= oldest else "lost") for who, at in roll.beats.items()),
    ]
    for who, at, state in marks:
        if at >= min(oldest, forgotten):
            seen[name_of(who)] = max(seen.get(name_of(who), (0, state)), (at, state))
    return [
        Worker(name, state, owned.get(name, []), moment(at / 1000))
        for name, (at, state) in sorted(seen.items())
    ]


def _scores(answer: Sequence[str]) -> dict[str, int]:
    """Of a sorted set: members and scores, one after the other."""
    return {who: int(float(score)) for who, score in zip(answer[::2], answer[1::2], strict=True)}
