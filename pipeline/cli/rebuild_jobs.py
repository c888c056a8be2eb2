"""Rebuilds as commands use them: start, find, cancel; each failure is a `CommandFailed`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import INTERRUPTED, CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.rebuild_formatting import scope, summary
from pipeline.cli.rebuild_watch import Bars, follow
from pipeline.messaging.answers import ELECTION
from pipeline.model.projection import Projection
from pipeline.operations import rebuild_requests
from pipeline.operations.audit import record
from pipeline.operations.rebuild_requests import Asked, NoSuchPartition
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import Busy, NoSuchJob, RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import RebuildJobs

Found = tuple[RebuildJob, list[RebuildPart]]


async def start(settings: Settings, projection: Projection, asked: Asked, *, wait: bool) -> Found:
    """Start or join a rebuild; prints on stderr which of the two."""
    async with jetstream(settings) as js:
        jobs = RebuildJobs(js, projection)
        try:
            job, joined = await until_answered(
                lambda: rebuild_requests.start(js, jobs, asked, expected=settings.partitions)
            )
        except NoSuchPartition as error:
            raise CommandFailed(str(error)) from error
        except Busy as busy:
            raise CommandFailed(
                f"another one runs: {summary(busy.job)}\n"
                f"`bank rebuild status {busy.job.id}` shows it, "
                f"`bank rebuild cancel {busy.job.id}` calls it off."
            ) from busy
        echo(f"rebuild {job.id} ({scope(job)}) {_start_outcome(job, joined, asked)}", err=True)
        with _leaving_it_running(job.id):
            target = f"{projection.name} {job.id}"
            await record(js, settings, "rebuild-started", target, "joined" if joined else "done")
            return await _until_over(jobs, job.id) if wait else (job, jobs.parts(job))


async def find(
    settings: Settings, projection: Projection, job_id: str | None, *, wait: bool
) -> Found:
    """The rebuild of that id, or the last one."""
    async with opened(settings, projection) as jobs:
        job = _chosen(jobs, job_id)
        with _leaving_it_running(job.id):
            return await _until_over(jobs, job.id) if wait else (job, jobs.parts(job))


async def find_all(settings: Settings, projection: Projection) -> list[Found]:
    """All rebuilds that are still known, the last one first."""
    async with opened(settings, projection) as jobs:
        return [(job, jobs.parts(job)) for job in jobs.all()]


async def cancel(settings: Settings, projection: Projection, job_id: str | None) -> RebuildJob:
    """Cancel a rebuild; it stays as it is if readers see its generation already, or it is over."""
    async with jetstream(settings) as js:
        jobs = RebuildJobs(js, projection)
        await until_answered(jobs.refresh, seconds=ELECTION)
        chosen = _chosen(jobs, job_id)
        try:
            job = await until_answered(partial(jobs.cancel, chosen.id))
        except NoSuchJob:
            raise _unknown(chosen.id) from None
        outcome = "done" if job.phase == "cancelled" else "rebuild-finished"
        await record(js, settings, "rebuild-cancelled", f"{projection.name} {job.id}", outcome)
        return job


@asynccontextmanager
async def opened(settings: Settings, projection: Projection) -> AsyncIterator[RebuildJobs]:
    """The rebuilds as they are now; `CommandFailed` when NATS does not answer."""
    async with jetstream(settings) as js:
        jobs = RebuildJobs(js, projection)
        await until_answered(jobs.refresh, seconds=ELECTION)
        yield jobs


async def _until_over(jobs: RebuildJobs, job_id: str) -> Found:
    """The rebuild when it is over, shown until then."""
    bars = Bars()
    with bars.displayed():
        return await follow(jobs, job_id, bars)


@contextmanager
def _leaving_it_running(job_id: str) -> Iterator[None]:
    """An interrupt ends the command alone, and prints how to go on."""
    try:
        yield
    except asyncio.CancelledError:
        raise CommandFailed(
            f"rebuild {job_id} goes on without this terminal\n"
            f"`bank rebuild status {job_id}` shows it, with --wait until it is over;\n"
            f"`bank rebuild cancel {job_id}` calls it off.",
            INTERRUPTED,
        ) from None


def _start_outcome(job: RebuildJob, joined: bool, asked: Asked) -> str:
    if not joined:
        return "is started" if job.generation is None else "goes on where it was when it failed"
    if job.concurrency != asked.max_concurrent:
        return f"runs already, with --max-concurrent {job.concurrency}; joined"
    return "runs already; joined"


def _chosen(jobs: RebuildJobs, job_id: str | None) -> RebuildJob:
    job = jobs.job(job_id) if job_id else jobs.current
    if job is None:
        raise _unknown(job_id) if job_id else CommandFailed("nothing was ever rebuilt")
    return job


def _unknown(job_id: str) -> CommandFailed:
    return CommandFailed(f"there is no rebuild {job_id}; `bank rebuild list` shows the last ones")
