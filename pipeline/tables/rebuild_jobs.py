"""Rebuilds as durable jobs, in the JetStream KV bucket `rebuild`; every worker reads them.

Key `job.{id}` is a job, `current` names the one started last, `part.{id}.{p}` has the progress of
partition p. Every projection has its own bucket. A job says what is wanted; only the alias says
which generation is live, and only the checkpoints, which are stored beside the documents, say how
far a replay is: the progress here is for people.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Final

from ulid import ULID

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, Mirror, Overtaken
from pipeline.messaging.news import News
from pipeline.model.projection import Projection
from pipeline.support.logs import moment
from pipeline.tables.rebuild_job import Busy, Kind, NoSuchJob, RebuildJob, RebuildPart, read

KEPT: Final = 20
"""How many finished jobs are kept."""

_ID: Final = re.compile("[0-9A-Z]{26}")
_NOT_LAST: Final = "it never began: another rebuild was started, or whoever asked for it died"


class RebuildJobs:
    """The jobs as this process knows them; `refresh` reads what others changed."""

    def __init__(self, js: JetStream, projection: Projection) -> None:
        self.projection = projection
        self._bucket = Bucket(js, projection.named("rebuild"))
        self._mirror = Mirror(self._bucket)

    def news(self) -> AbstractAsyncContextManager[News]:
        """The news of all jobs, while the block runs."""
        return self._bucket.news()

    async def refresh(self) -> frozenset[str]:
        """Bring what `current`, `job` and `parts` return up to date; returns what changed."""
        return await self._mirror.refresh()

    @property
    def current(self) -> RebuildJob | None:
        """The job that was started last."""
        pointer = self._mirror.entries.get("current")
        return self.job(str(pointer.value.get("id"))) if pointer else None

    def job(self, job_id: str) -> RebuildJob | None:
        """The job of that id. One that is not `current` is carried out by nobody, so it failed."""
        job = read(RebuildJob, self._mirror.entries.get(f"job.{job_id}"))
        pointer = self._mirror.entries.get("current")
        if job is None or not job.active or (pointer and pointer.value.get("id") == job_id):
            return job
        return replace(job, phase="failed", reason=_NOT_LAST)

    def all(self) -> list[RebuildJob]:
        """All jobs that are kept, the last one first."""
        ids = sorted(self._ids(), reverse=True)
        return [job for job in map(self.job, ids) if job is not None]

    def parts(self, job: RebuildJob) -> list[RebuildPart]:
        """One for each of the job's partitions, in order."""
        return [self.part(job, partition) for partition in job.partitions]

    async def start(
        self, kind: Kind, partitions: Sequence[int], of: int, *, concurrency: int = 1
    ) -> tuple[RebuildJob, bool]:
        """Start a job, or join the one that does the same; returns it and whether it was joined.

        A rebuild that failed goes on where it was. Raises `Busy` while another one runs.
        """
        while True:
            await self.refresh()
            last = self.current
            wanted = RebuildJob(
                str(ULID()),
                kind,
                "wanted",
                tuple(partitions),
                of,
                concurrency,
                _now(),
                projection=self.projection.name,
                version=self.projection.version,
            )
            if last is not None and last.active:
                if not _does(last, wanted):
                    raise Busy(last)
                return last, True
            with suppress(Overtaken):
                job = await self._begin(_next(last, wanted), last)
                await self._prune(job)
                await self.refresh()
                return job, False

    async def change(self, job_id: str, change: Callable[[RebuildJob], RebuildJob]) -> RebuildJob:
        """Write what `change` makes of the job as it is; raises `NoSuchJob`."""
        if not _ID.fullmatch(job_id):
            raise NoSuchJob(job_id)
        read_job = partial(read, RebuildJob)
        changed = await self._bucket.change(
            f"job.{job_id}", read_job, lambda job: job and change(job)
        )
        if changed is None:
            raise NoSuchJob(job_id)
        return changed

    async def cancel(self, job_id: str) -> RebuildJob:
        """Cancel it, unless its generation is live already; raises `NoSuchJob`."""
        return await self.change(
            job_id,
            lambda job: (
                replace(job, phase="cancelled", finished=_now())
                if job.phase in ("wanted", "building")
                else job
            ),
        )

    async def note(self, part: RebuildPart) -> None:
        """Write how far a partition is. Only its owner does."""
        value = {**asdict(part), "updated": _now()}
        await self._bucket.put(part.key, value)

    def part(self, job: RebuildJob, partition: int) -> RebuildPart:
        """How far that partition is."""
        entry = self._mirror.entries.get(f"part.{job.id}.{partition}")
        return read(RebuildPart, entry) or RebuildPart(job.id, partition)

    async def _begin(self, job: RebuildJob, last: RebuildJob | None) -> RebuildJob:
        """Write it, and make it the current one; raises `Overtaken`, and then it is not."""
        # The job before the pointer to it: who reads the pointer must find the job.
        pointer = self._mirror.entries.get("current")
        job = await self._bucket.write(job.key, job)
        try:
            revision = pointer.revision if pointer else 0
            await self._bucket.put("current", {"id": job.id}, expected=revision)
        except Overtaken:
            await self._undo(job, last)
            raise
        return job

    async def _undo(self, job: RebuildJob, last: RebuildJob | None) -> None:
        """Another job was started at the same moment: undo what was written of this one."""
        with suppress(Overtaken):
            if last is not None and last.id == job.id:
                await self._bucket.write(job.key, replace(last, revision=job.revision))
            else:
                await self._bucket.delete(job.key, expected=job.revision)

    def _ids(self) -> list[str]:
        keys = (key.partition(".") for key in self._mirror.entries)
        return [rest for kind, _, rest in keys if kind == "job" and _ID.fullmatch(rest)]

    async def _prune(self, job: RebuildJob) -> None:
        """Delete all but the last jobs: their ids sort by time."""
        old = set(sorted(self._ids())[:-KEPT]) - {job.id}
        for key in [key for key in self._mirror.entries if {*key.split(".")} & old]:
            await self._bucket.delete(key)


def _now() -> str:
    return moment(time.time())


def _next(last: RebuildJob | None, wanted: RebuildJob) -> RebuildJob:
    """The wanted one; or the last one, if that failed and does the same."""
    if last is None or last.phase != "failed" or not _does(last, wanted):
        return wanted
    # The same job continues: if its generation still exists, its replay goes on where it was.
    return replace(last, phase="wanted", finished=None, reason=None, concurrency=wanted.concurrency)


def _does(job: RebuildJob, wanted: RebuildJob) -> bool:
    """Whether the job does what is wanted. One of version 0 is for workers of any version."""
    asked = job.kind, job.partitions, job.of
    same = asked == (wanted.kind, wanted.partitions, wanted.of)
    return same and job.version in (0, wanted.version)
