"""Rebuilds in words and tables."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import plain_table
from pipeline.cli.progress import clock
from pipeline.coordination.partition_leases import name_of
from pipeline.operations.status.rebuild_progress import pauses_of, seconds_left, total_of
from pipeline.tables.rebuild_job import Phase, RebuildJob, RebuildPart

_PHASES: dict[Phase, str] = {
    "wanted": "waits for a worker",
    "building": "is under way",
    "swapped": "is nearly over: readers see the new generation",
    "done": "is done",
    "cancelled": "was cancelled",
    "failed": "failed",
}


def summary(job: RebuildJob) -> str:
    """A rebuild and its state in one sentence."""
    reason = f": {job.reason}" if job.reason else ""
    return f"rebuild {job.id} ({scope(job)}) {_PHASES[job.phase]}{reason}"


def scope(job: RebuildJob) -> str:
    """What it rebuilds."""
    if job.kind == "online":
        return "online"
    if len(job.partitions) == job.of:
        return "in place"
    numbers = ", ".join(map(str, job.partitions))
    return f"in place, partition{'s' * (len(job.partitions) > 1)} {numbers}"


def outcome(job: RebuildJob, parts: Sequence[RebuildPart]) -> str:
    """The outcome of a rebuild that is over; `CommandFailed` unless it is done."""
    if job.phase == "failed":
        raise CommandFailed(f"{summary(job)}\n`bank rebuild` once more goes on where it was.")
    if job.phase != "done":
        raise CommandFailed(summary(job))
    events = sum(part.done for part in parts)
    lines = [f"{summary(job)}: {_count(len(parts), 'partition')}, {_count(events, 'event')}"]
    if removed := sum(part.removed for part in parts):
        lines.append(f"documents of accounts that are not there, removed: {removed:,}")
    if pauses := pauses_of(parts):
        lines.append(
            f"live traffic of a partition stood still {pauses.number} times: "
            f"median {_ms(pauses.median_ms)} ms, longest {_ms(pauses.longest_ms)} ms"
        )
    elif job.kind == "in-place":
        lines.append("live traffic never stood still")
    return "\n".join(lines)


def table(job: RebuildJob, parts: Iterable[RebuildPart]) -> Table:
    """The progress of each partition."""
    shown = plain_table(
        "partition", "state", "done", "total", "events/s", "left", "pauses ms", "owner"
    )
    for part in parts:
        shown.add_row(
            str(part.partition),
            part.state,
            f"{part.done:,}",
            f"{total_of(part):,}",
            f"{part.events_per_second:,.0f}",
            time_left(job, part),
            " ".join(map(_ms, part.pauses_ms)),
            name_of(part.owner),
        )
    return shown


def listing(jobs: Iterable[RebuildJob]) -> Table:
    """Rebuilds, one in each line."""
    shown = plain_table("id", "what", "state", "started", "finished", "reason")
    for job in jobs:
        cells = (job.id, scope(job), job.phase, job.started, job.finished or "", job.reason or "")
        shown.add_row(*cells)
    return shown


def time_left(job: RebuildJob, part: RebuildPart) -> str:
    """The time left, as minutes and seconds."""
    seconds = seconds_left(job, part)
    return "" if seconds is None else clock(seconds)


def _ms(pause: float) -> str:
    """Some are but microseconds."""
    return f"{pause:,.1f}" if pause >= 1 else f"{pause:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
