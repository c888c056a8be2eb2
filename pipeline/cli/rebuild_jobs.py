"""Rebuilds as commands use them: started, found, called off; every failure in words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import click

from pipeline.cli.connections import jetstream
from pipeline.cli.failures import Told
from pipeline.cli.rebuild_formatting import said, what
from pipeline.cli.rebuild_watch import Bars, follow
from pipeline.model.projection import Projection
from pipeline.operations.rebuild_requests import Asked, NoSuchPartition, start
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import Busy, Job, NoSuchJob, Part
from pipeline.tables.rebuild_jobs import Jobs

INTERRUPTED: Final = 130

Found = tuple[Job, list[Part]]


async def started(settings: Settings, projection: Projection, asked: Asked, *, wait: bool) -> Found:
    """The rebuild that does what is asked; says on stderr whether it ran already."""
    async with jetstream(settings) as js:
        jobs = Jobs(js, projection, replicas=settings.stream_replicas)
        try:
            job, joined = await start(js, jobs, asked, expected=settings.partitions)
        except NoSuchPartition as error:
            raise Told(str(error)) from error
        except Busy as busy:
            raise Told(
                f"another one runs: {said(busy.job)}\n"
                f"`bank rebuild status {busy.job.id}` shows it, "
                f"`bank rebuild cancel {busy.job.id}` calls it off."
            ) from busy
        click.echo(f"rebuild {job.id} ({what(job)}) {_begun(job, joined, asked)}", err=True)
        return await _until_over(jobs, job.id) if wait else (job, jobs.parts(job))


async def found(
    settings: Settings, projection: Projection, job_id: str | None, *, wait: bool
) -> Found:
    """The rebuild of that id, or the last one."""
    async with opened(settings, projection) as jobs:
        job = _chosen(jobs, job_id)
        return await _until_over(jobs, job.id) if wait else (job, jobs.parts(job))


async def everything(settings: Settings, projection: Projection) -> list[Found]:
    """All that are still known, the last one first."""
    async with opened(settings, projection) as jobs:
        return [(job, jobs.parts(job)) for job in jobs.all()]


async def cancelled(settings: Settings, projection: Projection, job_id: str | None) -> Job:
    """The rebuild, called off unless it is too late."""
    async with opened(settings, projection) as jobs:
        chosen = _chosen(jobs, job_id)
        try:
            return await jobs.cancel(chosen.id)
        except NoSuchJob:
            raise _unknown(chosen.id) from None


@asynccontextmanager
async def opened(settings: Settings, projection: Projection) -> AsyncIterator[Jobs]:
    """The rebuilds as they are now; `Told` when NATS does not answer."""
    async with jetstream(settings) as js:
        jobs = Jobs(js, projection, replicas=settings.stream_replicas)
        await jobs.refresh()
        yield jobs


async def _until_over(jobs: Jobs, job_id: str) -> Found:
    """The rebuild when it is over, shown until then. An interrupt leaves it running."""
    with Bars() as bars:
        try:
            return await follow(jobs, job_id, bars)
        except asyncio.CancelledError:
            raise Told(
                f"rebuild {job_id} goes on without this terminal\n"
                f"`bank rebuild status {job_id}` shows it, with --wait until it is over;\n"
                f"`bank rebuild cancel {job_id}` calls it off.",
                INTERRUPTED,
            ) from None


def _begun(job: Job, joined: bool, asked: Asked) -> str:
    if not joined:
        return "is started" if job.generation is None else "goes on where it was when it failed"
    if job.concurrency != asked.max_concurrent:
        return f"runs already, with --max-concurrent {job.concurrency}; joined"
    return "runs already; joined"


def _chosen(jobs: Jobs, job_id: str | None) -> Job:
    job = jobs.job(job_id) if job_id else jobs.current
    if job is None:
        raise _unknown(job_id) if job_id else Told("nothing was ever rebuilt")
    return job


def _unknown(job_id: str) -> Told:
    return Told(f"there is no rebuild {job_id}; `bank rebuild list` shows the last ones")
