"""A rebuild job and its parts: what is wanted, and how far each partition is."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.messaging.kv import KeyValueEntry
from pipeline.model.names import BANK
from pipeline.model.projection import Projection

Kind = Literal["online", "in-place"]
Phase = Literal["wanted", "building", "swapped", "done", "cancelled", "failed"]
PartState = Literal["waiting", "replaying", "replayed", "done"]


class Busy(Exception):
    """Another rebuild is under way, which does something else."""

    def __init__(self, job: "RebuildJob") -> None:
        super().__init__(f"the rebuild {job.id} is under way")
        self.job = job


class NoSuchJob(Exception):
    """There is no rebuild of that id, or not any more."""


@dataclass(frozen=True, slots=True)
class RebuildJob:
    """A rebuild of some `partitions`, of a bank that has `of`.

    Online: `generation` is the one being built, with the index `uuid`; `old` the one that was live.
    Only workers with this `version` of the projection build it (0: a job of an older release, which
    had none). Times are RFC 3339. `revision` is the KV entry's.
    """

    id: str
    kind: Kind
    phase: Phase
    partitions: tuple[int, ...]
    of: int
    concurrency: int
    started: str
    generation: int | None = None
    uuid: str | None = None
    old: int | None = None
    old_uuid: str | None = None
    swapped: str | None = None
    finished: str | None = None
    dropped: bool = False
    reason: str | None = None
    projection: str = BANK.plain
    version: int = 0
    revision: int = 0

    @property
    def key(self) -> str:
        return f"job.{self.id}"

    @property
    def active(self) -> bool:
        return self.phase in ("wanted", "building", "swapped")

    def is_for(self, projection: Projection) -> bool:
        """Whether workers with this version of the projection carry it out."""
        return self.version in (0, projection.version)


@dataclass(frozen=True, slots=True)
class RebuildPart:
    """How far a partition is: events `done` of `total`, and the pauses of its live traffic."""

    job: str
    partition: int
    state: PartState = "waiting"
    done: int = 0
    total: int = 0
    events_per_second: float = 0.0
    pauses_ms: list[float] = field(default_factory=list)
    owner: str = ""
    removed: int = 0
    updated: str = ""

    @property
    def key(self) -> str:
        return f"part.{self.job}.{self.partition}"


T = TypeVar("T", RebuildJob, RebuildPart)

_CHECKED: Final[dict[type, TypeAdapter[Any]]] = {
    kind: TypeAdapter(kind) for kind in (RebuildJob, RebuildPart)
}


def read(kind: type[T], entry: KeyValueEntry | None) -> T | None:
    """The job or part in an entry; None if there is none or it is invalid: written by hand."""
    if entry is None:
        return None
    value = {**entry.value, "revision": entry.revision} if kind is RebuildJob else entry.value
    try:
        found: T = _CHECKED[kind].validate_python(value)
    except ValidationError:
        return None
    return found if found.key == entry.key else None
