"""The rule by which every worker decides by itself which partitions it should own; pure.

Each worker reads who is alive and who owns what, perhaps a moment late, and acquires or releases
partitions by itself; a lease ensures that a partition has one owner. The rule converges: with P
partitions and W workers that stay, every worker owns floor(P / W) or ceil(P / W) partitions, and no
worker changes anything any more.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShareChange:
    """What a worker should do now.

    `acquire`: free partitions, in the order to try; `release`: partitions to drain, then release.
    """

    acquire: tuple[int, ...] = ()
    release: tuple[int, ...] = ()


def fair_change(owners: Sequence[str | None], workers: Collection[str], me: str) -> ShareChange:
    """The change that the worker `me` should make, where `owners[p]` owns partition p.

    An owner that is not among the workers has died. Its partitions are free when their leases end.
    """
    alive = sorted({*workers, me})
    counts = Counter(owner for owner in owners if owner in alive)
    floor, rest = divmod(len(owners), len(alive))
    # The remainder goes to those who own most already, so that as few partitions move as possible.
    richest = sorted(alive, key=lambda worker: (-counts[worker], worker))[:rest]
    share = floor + (me in richest)
    if counts[me] >= share:
        mine = [partition for partition, owner in enumerate(owners) if owner == me]
        return ShareChange(release=tuple(mine[share:]))
    if counts[me] >= floor and any(counts[worker] < floor for worker in alive):
        return ShareChange()  # the remainder waits until every worker has the floor
    wanted = max(1, floor - counts[me])
    return ShareChange(acquire=_free_from(owners, alive.index(me) / len(alive))[:wanted])


def _free_from(owners: Sequence[str | None], part: float) -> tuple[int, ...]:
    """The free partitions, beginning at another one than the other workers."""
    free = [partition for partition, owner in enumerate(owners) if owner is None]
    first = int(part * len(free))
    return (*free[first:], *free[:first])
