"""The schema of a rebuild, as `pipeline.operations.status.rebuild_progress.as_json` makes it."""

from typing_extensions import TypedDict

from pipeline.operations.status.rebuild_progress import State
from pipeline.tables.rebuild_job import Kind, PartState, Phase


class Part(TypedDict):
    """How far a partition is; `pauses_ms` are those of its live traffic."""

    partition: int
    state: PartState
    done: int
    total: int
    events_per_second: float
    seconds_left: float | None
    pauses_ms: list[float]
    owner: str


class Rebuild(TypedDict):
    """A rebuild, and how far each of its partitions is. `done` and `total` count events."""

    id: str
    projection: str
    kind: Kind
    state: State
    phase: Phase
    partitions: list[Part]
    started: str
    finished: str | None
    reason: str | None
    done: int
    total: int
