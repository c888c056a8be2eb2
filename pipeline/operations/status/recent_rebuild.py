"""The rebuild that an overview shows: the running one, or one that has just ended."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.operations.status.rebuild_progress import as_json
from pipeline.tables.rebuild_job import RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs

_LATELY: Final = timedelta(minutes=10)


def recent(everything: Iterable[RebuildJobs], now: datetime) -> dict[str, Any] | None:
    """The running rebuild of any projection, or the last one if it ended in the last ten
    minutes."""
    last = [(jobs, jobs.current) for jobs in everything]
    found = [(jobs, job) for jobs, job in last if job is not None and _concerns(job, now)]
    if not found:
        return None
    jobs, job = max(found, key=lambda each: (each[1].active, each[1].id))
    return as_json(job, jobs.parts(job))


def _concerns(job: RebuildJob, now: datetime) -> bool:
    if job.active:
        return True
    ended = datetime.fromisoformat(job.finished or job.started)
    return now - ended < _LATELY
