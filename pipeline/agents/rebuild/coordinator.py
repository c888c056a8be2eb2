"""The steps of a rebuild that are done once for all workers: create, swap, drop generations.

Any worker may do any step: Elasticsearch and the job's compare-and-set decide. A lease only saves
the others the work.
"""

import logging
import time
from dataclasses import replace
from datetime import datetime
from typing import Final

from pipeline.agents.context import ProjectionContext
from pipeline.coordination.leases import Lease, LeaseUnavailable
from pipeline.search import Generation
from pipeline.search.alias_swap import AliasSwap
from pipeline.support.logs import moment
from pipeline.tables.checkpoint import Checkpoint, checkpoint_id
from pipeline.tables.rebuild_job import Phase, RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs

log = logging.getLogger(__name__)

PROMOTED_SECONDS: Final = 60.0
"""A job is done when every partition writes the new generation alone, or after so long."""


class Coordinator:
    """Does the step of the current job that is due. Raises the servers' errors."""

    def __init__(self, context: ProjectionContext, lease: Lease, grace_seconds: float) -> None:
        self._context, self._lease, self._grace = context, lease, grace_seconds
        self._jobs: RebuildJobs = context.jobs
        self._projection = context.projection
        self._alias_swap = AliasSwap(context.elastic, context.generations)
        self._trusted: dict[str, dict[str, int]] = {}
        """By uuid of the index that is built: the boots of Elasticsearch's nodes since which its
        checkpoints were written."""

    async def step(self, job: RebuildJob) -> None:
        if job.phase in ("wanted", "building") and job.of != self._context.partitions:
            await self._fail(job, f"the bank has {self._context.partitions} partitions now")
        elif (job.active or not job.dropped) and await self._ours():
            await (self._online(job) if job.kind == "online" else self._in_place(job))
        for each in self._jobs.all():  # earlier jobs: this one may have started within their grace
            if each.id != job.id and each.phase == "done" and not each.dropped:
                await self._drop_old(each)

    async def _ours(self) -> bool:
        try:
            return await self._lease.acquire()
        except LeaseUnavailable:
            return True  # nobody has it now, and two may do the same step

    async def _online(self, job: RebuildJob) -> None:
        match job.phase:
            case "wanted":
                await self._begin(job)
            case "building":
                await self._swap_when_complete(job)
            case "swapped":
                await self._done_when_promoted(job)
            case "done":
                await self._drop_old(job)
            case "cancelled":
                await self._drop_new(job)

    async def _in_place(self, job: RebuildJob) -> None:
        if not job.active:
            await self._jobs.change(job.id, lambda job: replace(job, dropped=True))
        elif all(part.state == "done" for part in self._jobs.parts(job)):
            await self._jobs.change(
                job.id, lambda job: replace(job, phase="done", finished=_now(), dropped=True)
            )
        elif job.phase == "wanted":
            await self._jobs.change(job.id, lambda job: replace(job, phase="building"))

    # ---------------------------------------------------------------- online

    async def _begin(self, job: RebuildJob) -> None:
        boots = await self._context.elastic.boots()  # first: a restart after this shows
        old, new = await self._context.generations.live(), await self._alias_swap.begin()
        log.info("rebuild %s: building %s", job.id, new.index)
        ours = False

        def begun(job: RebuildJob) -> RebuildJob:
            nonlocal ours
            ours = job.phase == "wanted" and job.uuid != new.uuid
            if job.phase != "wanted":
                return job
            return replace(
                job,
                phase="building",
                generation=new.number,
                uuid=new.uuid,
                old=old.number if old else None,
                old_uuid=old.uuid if old else None,
            )

        await self._jobs.change(job.id, begun)
        if ours:  # nobody has written the generation before
            self._trusted = {new.uuid: boots}

    async def _swap_when_complete(self, job: RebuildJob) -> None:
        new, live = self._new(job), await self._context.generations.live()
        # Only the alias shows which generation is live: a worker may have been killed after its
        # swap and before it wrote that into the job.
        if live != new:
            if await self._alias_swap.building() != new:
                await self._fail(job, f"the index {new.index} was deleted")
                return
            # Complete first: readers must not see an index with missing documents. A restart that
            # comes after that look shows in the next one, or fails the swap.
            if not await self._complete(job, live) or await self._restarted(job):
                return
            if not await self._alias_swap.swap(live, new):
                return
        await self._note_swap(job, live)

    async def _note_swap(self, job: RebuildJob, before: Generation | None) -> None:
        """Write into the job that its generation is live, in the place of the one `before`.

        A job that was cancelled or has failed meanwhile is done: only the old generation has to be
        dropped. Whoever ended it had not seen the swap.
        """
        new = self._new(job)

        def swapped(job: RebuildJob) -> RebuildJob:
            if job.phase in ("swapped", "done"):
                return job
            old, uuid = job.old, job.old_uuid
            if before is not None and before != new:
                old, uuid = before.number, before.uuid
            phase: Phase = "swapped" if job.active else "done"
            return replace(
                job,
                phase=phase,
                swapped=_now(),
                finished=None if job.active else _now(),
                dropped=False,
                reason=None,
                old=old,
                old_uuid=uuid,
            )

        await self._jobs.change(job.id, swapped)

    async def _complete(self, job: RebuildJob, live: Generation | None) -> bool:
        """Whether the present owner of each partition has all of it in the new generation."""
        ids = {p: checkpoint_id(self._new(job), p, job.of) for p in job.partitions}
        lives = {p: checkpoint_id(live, p, job.of) for p in job.partitions} if live else {}
        found = await self._context.checkpoints.read([*ids.values(), *lives.values()])
        return all(
            _is_complete(job, found.get(ids[p]), found.get(lives[p]) if live else None)
            for p in job.partitions
        )

    async def _restarted(self, job: RebuildJob) -> bool:
        """Whether Elasticsearch may have lost documents that the checkpoints claim, in a restart
        that not every owner has noticed. Then each has to acquire its partitions again."""
        new, boots = self._new(job), await self._context.elastic.boots()
        trusted = self._trusted.get(new.uuid)
        if trusted is not None and all(trusted.get(node) == at for node, at in boots.items()):
            return False
        log.info("rebuild %s: Elasticsearch may have been restarted: all catch up again", job.id)
        await self._context.checkpoints.doubt(
            [checkpoint_id(new, partition, job.of) for partition in job.partitions]
        )
        # Only now: what is whole from here on was acquired after the look at the boots.
        self._trusted = {new.uuid: boots}
        return True

    async def _done_when_promoted(self, job: RebuildJob) -> None:
        late = _seconds_since(job.swapped) > PROMOTED_SECONDS
        if late or all(part.state == "done" for part in self._jobs.parts(job)):
            log.info("rebuild %s: done", job.id)
            await self._jobs.change(job.id, lambda job: replace(job, phase="done", finished=_now()))

    async def _drop_old(self, job: RebuildJob) -> None:
        # A point in time that a reader opened before the swap ends with its index: the grace is
        # longer than any of them is open.
        if _seconds_since(job.swapped) < self._grace:
            return
        if job.old is not None and job.old_uuid is not None:
            old = Generation(job.old, job.old_uuid, self._projection)
            await self._context.generations.drop(old)
        await self._jobs.change(job.id, lambda job: replace(job, dropped=True))

    async def _drop_new(self, job: RebuildJob) -> None:
        if job.generation is not None and not await self._alias_swap.give_up(self._new(job)):
            live = await self._context.generations.live()
            if live == self._new(job):  # another worker swapped it before the job was cancelled
                await self._note_swap(job, live)
                return
            # Whoever gave it up may have been killed before it deleted the index.
            await self._context.generations.drop(self._new(job))
        await self._jobs.change(job.id, lambda job: replace(job, dropped=True))

    def _new(self, job: RebuildJob) -> Generation:
        assert job.generation is not None
        assert job.uuid is not None
        return Generation(job.generation, job.uuid, self._projection)

    async def _fail(self, job: RebuildJob, reason: str) -> None:
        if job.kind == "online" and job.phase == "building":
            # Another worker may have swapped since this one looked. The reason was seen first, and
            # a swap moves both aliases at once: so what was swapped by then is live in this look.
            live = await self._context.generations.live()
            if live == self._new(job):
                await self._note_swap(job, live)
                return
        log.error("rebuild %s failed: %s", job.id, reason)

        def failed(job: RebuildJob) -> RebuildJob:
            if not job.active or job.phase == "swapped":
                return job
            return replace(job, phase="failed", finished=_now(), reason=reason)

        await self._jobs.change(job.id, failed)


def _is_complete(job: RebuildJob, built: Checkpoint | None, live: Checkpoint | None) -> bool:
    if built is None or built.index_uuid != job.uuid or built.sequence is None:
        return False
    # Of the same epoch: another owner of the live one may not write the new generation yet.
    return built.cursor is None and (live is None or live.epoch == built.epoch)


def _now() -> str:
    return moment(time.time())


def _seconds_since(then: str | None) -> float:
    return time.time() - datetime.fromisoformat(then).timestamp() if then else 0.0
