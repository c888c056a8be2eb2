"""Following a rebuild in the terminal until it is over: a bar for each partition."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.cli import progress
from pipeline.cli.connections import NATS_DOWN
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import console
from pipeline.cli.rebuild_formatting import time_left
from pipeline.coordination.partition_leases import name_of
from pipeline.messaging.answers import FAILURES
from pipeline.model.visible import visible as shown
from pipeline.operations.status.rebuild_progress import total_of, total_progress
from pipeline.support.cancellation import raise_if_cancelled
from pipeline.tables.rebuild_job import RebuildJob, RebuildPart
from pipeline.tables.rebuild_jobs import RebuildJobs

QUIET_SECONDS: Final = 5.0
"""Seconds without news of any worker after which that is printed."""
WAITING: Final = "waiting for a worker: none has taken it up yet (`bank worker` is one)"
NO_NEWS: Final = f"no worker has said anything for {QUIET_SECONDS:.0f} s; it goes on when one does"
SWAPPED: Final = "readers see the new generation; the workers turn to it"

_EVERY: Final = 0.25
_FIELDS: Final = ("events", "rate", "left", "state", "owner")


class Bars:
    """A bar for each partition while stderr is a terminal, else a line of all now and then."""

    def __init__(self) -> None:
        self._out = console(err=True)
        self._progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in _FIELDS),
            console=self._out,
        )
        self._tasks: dict[str, TaskID] = {}
        self._line = ""

    @contextmanager
    def displayed(self) -> Iterator[None]:
        with progress.displayed(self._progress, lambda: self._line):
            yield

    def show(self, job: RebuildJob, parts: Sequence[RebuildPart]) -> None:
        """All of it, and each partition; of very many only those that are being replayed."""
        every = total_progress(job, parts)
        self._bar("all", job, every, state="")
        self._line = _line(job, every)
        many = len(parts) > self._out.height - 3
        for part in parts:
            visible = not many or part.state == "replaying"
            self._bar(f"{part.partition}", job, part, state=part.state, visible=visible)

    def print_line(self, remark: str) -> None:
        """A line above the bars."""
        progress.print_line(self._out, remark)

    def _bar(self, name: str, job: RebuildJob, part: RebuildPart, **fields: Any) -> None:
        if name not in self._tasks:
            blank: dict[str, Any] = dict.fromkeys(_FIELDS, "")
            self._tasks[name] = self._progress.add_task(name, **blank)
        total, rate = total_of(part), part.events_per_second
        self._progress.update(
            self._tasks[name],
            completed=part.done if total else part.state in ("replayed", "done"),
            total=total or 1,
            events=f"{part.done:,} of {total:,}" if total else "",
            rate=f"{rate:,.0f}/s" if rate else "",
            left=time_left(job, part),
            owner=escape(shown(name_of(part.owner))),
            **fields,
        )


async def follow(
    jobs: RebuildJobs, job_id: str, bars: Bars
) -> tuple[RebuildJob, list[RebuildPart]]:
    """The rebuild when it is over. NATS may be down meanwhile."""
    clock = asyncio.get_running_loop().time
    known: tuple[RebuildJob, list[RebuildPart]] | None = None
    news_at, printed = clock(), ""
    while True:
        raise_if_cancelled()
        try:
            await jobs.refresh()
            now = _known(jobs, job_id)
            bars.show(*now)
            if not now[0].active:
                return now
            if now != known:
                known, news_at = now, clock()
            remark = _remark(now[0], clock() - news_at)
        except FAILURES:
            remark = NATS_DOWN
        if remark and remark != printed:
            bars.print_line(remark)
        printed = remark
        await asyncio.sleep(_EVERY)


def _line(job: RebuildJob, every: RebuildPart) -> str:
    """How far all of it is; nothing before it is known how much there is."""
    total = total_of(every)
    if not total:
        return ""
    name = f"rebuild {job.id}"
    return progress.progress_line(
        name, every.done, total, every.events_per_second, time_left(job, every)
    )


def _remark(job: RebuildJob, quiet_seconds: float) -> str:
    if job.phase == "swapped":
        return SWAPPED
    if quiet_seconds < QUIET_SECONDS:
        return ""
    return WAITING if job.phase == "wanted" else NO_NEWS


def _known(jobs: RebuildJobs, job_id: str) -> tuple[RebuildJob, list[RebuildPart]]:
    job = jobs.job(job_id)
    if job is None:
        raise CommandFailed(
            f"nobody knows of rebuild {job_id} any more; `bank rebuild list` shows the last"
        )
    return job, jobs.parts(job)
