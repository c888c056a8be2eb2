"""Who should have which partition: the rule by which every worker decides for itself.

Each worker sees who is alive and who has what, perhaps a moment late, and takes or gives up
partitions of its own accord; a lease makes sure that a partition is taken once. The rule settles:
seen at rest, every worker has floor(P / W) or ceil(P / W) partitions, and none wants to move one.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShareChange:
    """What a worker should do now. `take` is free, in the order to try; `give` is drained first."""

    acquire: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


def fair_change(owners: Sequence[str | None], workers: Collection[str], me: str) -> ShareChange:
    """The change that `me` should make, when `owners[p]` has partition p.

    An owner that is not among the workers has died: what it had is not free before its lease ends.
    """
    alive = sorted({*workers, me})
    counts = Counter(owner for owner in owners if owner in alive)
    floor, rest = divmod(len(owners), len(alive))
    # Those who have most keep most: so as few partitions move as can be.
    richest = sorted(alive, key=lambda worker: (-counts[worker], worker))[:rest]
    share = floor + (me in richest)
    if counts[me] >= share:
        mine = [partition for partition, owner in enumerate(owners) if owner == me]
        return ShareChange(give=tuple(mine[share:]))
    if counts[me] >= floor and any(counts[worker] < floor for worker in alive):
        return ShareChange()  # the remainder is for when everybody has the floor
    wanted = max(1, floor - counts[me])
    return ShareChange(acquire=_from_my_end(owners, alive.index(me) / len(alive))[:wanted])


def _from_my_end(owners: Sequence[str | None], part: float) -> tuple[int, ...]:
    """The free partitions, beginning where the other workers do not."""
    free = [partition for partition, owner in enumerate(owners) if owner is None]
    first = int(part * len(free))
    return (*free[first:], *free[:first])
