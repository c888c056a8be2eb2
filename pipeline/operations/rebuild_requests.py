"""Starting a rebuild as people ask for it, in the terminal and over HTTP."""

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.coordination.partitioning import partitioning
from pipeline.messaging import JetStream
from pipeline.tables.rebuild_job import Kind, RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs


class NoSuchPartition(Exception):
    """A partition was asked for that the bank does not have; the message is for people."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for: all partitions into the next generation, unless told otherwise.

    Certain `partitions` are only ever rebuilt in place.
    """

    partitions: Collection[int] = ()
    in_place: bool = False
    max_concurrent: int = 1

    @property
    def kind(self) -> Kind:
        return "in-place" if self.in_place or self.partitions else "online"


async def start(
    js: JetStream, jobs: RebuildJobs, asked: Asked, *, expected: int
) -> tuple[RebuildJob, bool]:
    """The rebuild that does it, and whether it ran already.

    `expected`: the number of partitions while nothing tells. Raises `Busy`, `NoSuchPartition`.
    """
    found = await partitioning(js)
    of = found.count if found else expected
    partitions = sorted({*asked.partitions}) or range(of)
    if partitions[-1] >= of:
        raise NoSuchPartition(f"The bank has no partition {partitions[-1]}, only 0 to {of - 1}.")
    return await jobs.start(asked.kind, partitions, of, concurrency=asked.max_concurrent)
