"""The progress of a rebuild: as JSON for programs, and as figures for people."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipeline.coordination.partition_leases import name_of
from pipeline.tables.rebuild_job import Phase, RebuildJob, RebuildPart

State = Literal["running", "done", "cancelled", "failed"]

_STATES: Final[dict[Phase, State]] = {
    "wanted": "running",
    "building": "running",
    "swapped": "running",
    "done": "done",
    "cancelled": "cancelled",
    "failed": "failed",
}


def as_json(job: RebuildJob, parts: Sequence[RebuildPart]) -> dict[str, Any]:
    """The rebuild as HTTP, its event stream and `--json` show it."""
    return {
        "id": job.id,
        "projection": job.projection,
        "kind": job.kind,
        "state": state_of(job),
        "phase": job.phase,
        "partitions": [_part_as_json(job, part) for part in parts],
        "started": job.started,
        "finished": job.finished,
        "reason": job.reason,
        "done": sum(part.done for part in parts),
        "total": sum(total_of(part) for part in parts),
    }


def state_of(job: RebuildJob) -> State:
    return _STATES[job.phase]


def total_of(part: RebuildPart) -> int:
    """At least `done`: events may be stored while the partition is replayed."""
    return max(part.total, part.done)


def seconds_left(job: RebuildJob, part: RebuildPart) -> float | None:
    """Seconds until its replay is done at this rate; None when that is not known."""
    if part.state in ("replayed", "done"):
        return 0.0
    if not job.active or part.state != "replaying" or part.events_per_second <= 0:
        return None
    return (total_of(part) - part.done) / part.events_per_second


def total_progress(job: RebuildJob, parts: Sequence[RebuildPart]) -> RebuildPart:
    """The partitions added up, as if they were one.

    Its rate is the sum of those being replayed; while they have none, the mean of all that had one.
    """
    rates = [part.events_per_second for part in parts if part.events_per_second > 0]
    rate = sum(part.events_per_second for part in parts if part.state == "replaying")
    done, total = sum(part.done for part in parts), sum(map(total_of, parts))
    usual = statistics.mean(rates) if rates else 0.0
    return RebuildPart(job.id, -1, "replaying", done, total, rate or usual)


@dataclass(frozen=True, slots=True)
class Pauses:
    """How often the rebuild paused live traffic of a partition, and for how long."""

    number: int
    median_ms: float
    longest_ms: float


def pauses_of(parts: Iterable[RebuildPart]) -> Pauses | None:
    """All pauses of a rebuild together; None when there was none yet."""
    pauses = [pause for part in parts for pause in part.pauses_ms]
    return Pauses(len(pauses), statistics.median(pauses), max(pauses)) if pauses else None


def _part_as_json(job: RebuildJob, part: RebuildPart) -> dict[str, Any]:
    left = seconds_left(job, part)
    return {
        "partition": part.partition,
        "state": part.state,
        "done": part.done,
        "total": total_of(part),
        "events_per_second": round(part.events_per_second, 1),
        "seconds_left": None if left is None else round(left, 1),
        "pauses_ms": part.pauses_ms,
        "owner": name_of(part.owner),
    }
