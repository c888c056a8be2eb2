"""Starts a rebuild that an operator asks for, in the terminal or over HTTP."""

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.coordination.partitioning import partitioning
from pipeline.messaging import JetStream
from pipeline.tables.rebuild_job import Kind, RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs


class NoSuchPartition(Exception):
    """The bank has no such partition; the message is for people."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The rebuild that is asked for; by default of all partitions, into the next generation.

    Single `partitions` are always rebuilt in place.
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

    `expected`: the number of partitions while the stream does not say. Raises `Busy`,
    `NoSuchPartition`.
    """
    found = await partitioning(js)
    of = found.count if found else expected
    partitions = sorted({*asked.partitions}) or range(of)
    if partitions[-1] >= of:
        raise NoSuchPartition(f"The bank has no partition {partitions[-1]}, only 0 to {of - 1}.")
    return await jobs.start(asked.kind, partitions, of, concurrency=asked.max_concurrent)
