"""Rebuilds as durable jobs, in the JetStream KV bucket `rebuild`; every worker reads them.

Every projection has a bucket of its own.

Key `job.{id}` is a job, `current` names the last one that was started, and `part.{id}.{p}` tells
how far partition p is. The job says what is wanted; which generation is live, the alias alone says.
How far a partition's replay may be believed stands in its checkpoint, beside the data; what is here
is for people.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from ulid import ULID

from pipeline.jetstream import JetStream
from pipeline.kv import Bucket, Entry, Mirror, Overtaken
from pipeline.logs import moment
from pipeline.projection import FIRST, Projection
from pipeline.projections.balance import BALANCE

KEPT: Final = 20
"""Finished jobs that can still be asked for."""

_ID: Final = re.compile("[0-9A-Z]{26}")
_NOT_LAST: Final = "it never began: another rebuild was started, or whoever asked for it died"

Kind = Literal["online", "in-place"]
Phase = Literal["wanted", "building", "swapped", "done", "cancelled", "failed"]
PartState = Literal["waiting", "replaying", "replayed", "done"]


class Busy(Exception):
    """Another rebuild is under way, which is not what was asked for."""

    def __init__(self, job: "Job") -> None:
        super().__init__(f"the rebuild {job.id} is under way")
        self.job = job


class NoSuchJob(Exception):
    """There is no rebuild of that id, or it is too long ago."""


@dataclass(frozen=True, slots=True)
class Job:
    """A rebuild. `partitions` are to be done, of a bank that has `of`.

    Online: `generation` is the one that is built, `uuid` its index's, `old` the one that was live,
    `version` that of the fold, which only workers of that version build.
    Times are RFC 3339. `revision` is the entry's own.
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
    projection: str = FIRST
    version: int = BALANCE.version
    revision: int = 0

    @property
    def key(self) -> str:
        return f"job.{self.id}"

    @property
    def active(self) -> bool:
        return self.phase in ("wanted", "building", "swapped")


@dataclass(frozen=True, slots=True)
class Part:
    """How far a partition is: events replayed of how many, and the pauses of its live traffic."""

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


T = TypeVar("T", Job, Part)

_JOB: Final = TypeAdapter(Job)
_PART: Final = TypeAdapter(Part)


class Jobs:
    """The jobs as this process knows them; `refresh` learns what others did."""

    def __init__(
        self, js: JetStream, projection: Projection = BALANCE, *, replicas: int = 1
    ) -> None:
        self.projection = projection
        self._bucket = Bucket(js, projection.named("rebuild"), replicas=replicas)
        self._mirror = Mirror(self._bucket)

    async def refresh(self) -> frozenset[str]:
        """Bring what `current`, `job` and `parts` return up to date; returns what changed."""
        return await self._mirror.refresh()

    @property
    def current(self) -> Job | None:
        """The job that was started last."""
        pointer = self._mirror.entries.get("current")
        return self.job(str(pointer.value.get("id"))) if pointer else None

    def job(self, job_id: str) -> Job | None:
        """The job of that id. Nobody carries out one that `current` does not name: it failed."""
        entry = self._mirror.entries.get(f"job.{job_id}")
        job = _read(_JOB, entry) if entry else None
        pointer = self._mirror.entries.get("current")
        if job is None or not job.active or (pointer and pointer.value.get("id") == job_id):
            return job
        return replace(job, phase="failed", reason=_NOT_LAST)

    def all(self) -> list[Job]:
        """All that are still known, the last one first."""
        ids = sorted(self._ids(), reverse=True)
        return [job for job in map(self.job, ids) if job is not None]

    def parts(self, job: Job) -> list[Part]:
        """One for each of the job's partitions, in order."""
        return [self.part(job, partition) for partition in job.partitions]

    async def start(
        self, kind: Kind, partitions: Sequence[int], of: int, *, concurrency: int = 1
    ) -> tuple[Job, bool]:
        """Start a job, or join the one that does the same; returns it and whether it was joined.

        An online rebuild that failed goes on where it was. Raises `Busy` when another one runs.
        """
        while True:
            await self.refresh()
            pointer, last = self._mirror.entries.get("current"), self.current
            if last is not None and last.active:
                if (last.kind, last.partitions, last.version) != (
                    kind,
                    tuple(partitions),
                    self.projection.version,
                ):
                    raise Busy(last)
                return last, True
            wanted = Job(
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
            job = _next(last, wanted)
            try:
                job = await self._write(job)
            except Overtaken:
                continue
            try:
                await self._bucket.put(
                    "current", {"id": job.id}, expected=pointer.revision if pointer else 0
                )
            except Overtaken:
                await self._take_back(job, last)
                continue
            await self._prune(job)
            await self.refresh()
            return job, False

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Write what `change` makes of the job as it is; raises `NoSuchJob`."""
        while True:
            entry = await self._bucket.get(f"job.{job_id}") if _ID.fullmatch(job_id) else None
            job = _read(_JOB, entry) if entry else None
            if job is None:
                raise NoSuchJob(job_id)
            changed = change(job)
            if changed == job:
                return job
            try:
                return await self._write(changed)
            except Overtaken:
                continue

    async def cancel(self, job_id: str) -> Job:
        """Call it off, unless readers see its generation already; raises `NoSuchJob`."""
        return await self.change(
            job_id,
            lambda job: (
                replace(job, phase="cancelled", finished=_now())
                if job.phase in ("wanted", "building")
                else job
            ),
        )

    async def note(self, part: Part) -> None:
        """Tell how far a partition is. Only its owner does."""
        value = {**asdict(part), "updated": _now()}
        await self._bucket.put(part.key, value)

    def part(self, job: Job, partition: int) -> Part:
        """How far that partition is."""
        entry = self._mirror.entries.get(f"part.{job.id}.{partition}")
        return (_read(_PART, entry) if entry else None) or Part(job.id, partition)

    async def _write(self, job: Job) -> Job:
        value = asdict(job)
        del value["revision"]
        revision = await self._bucket.put(job.key, value, expected=job.revision)
        return replace(job, revision=revision)

    async def _take_back(self, job: Job, last: Job | None) -> None:
        """Another one was started at the same moment: this one is as it was before, or is not."""
        with suppress(Overtaken):
            if last is not None and last.id == job.id:
                await self._write(replace(last, revision=job.revision))
            else:
                await self._bucket.delete(job.key, expected=job.revision)

    def _ids(self) -> list[str]:
        keys = (key.partition(".") for key in self._mirror.entries)
        return [rest for kind, _, rest in keys if kind == "job" and _ID.fullmatch(rest)]

    async def _prune(self, job: Job) -> None:
        """Forget all but the last jobs: their ids sort by time."""
        old = set(sorted(self._ids())[:-KEPT]) - {job.id}
        for key in [key for key in self._mirror.entries if {*key.split(".")} & old]:
            await self._bucket.delete(key)


def _now() -> str:
    return moment(time.time())


def _next(last: Job | None, wanted: Job) -> Job:
    """The wanted one; or the last, if it failed and was the same."""
    if last is None or last.phase != "failed" or _asks(last) != _asks(wanted):
        return wanted
    # if its generation is still there it is gone on with
    return replace(last, phase="wanted", finished=None, reason=None, concurrency=wanted.concurrency)


def _asks(job: Job) -> tuple[object, ...]:
    return job.kind, job.partitions, job.of, job.version


def _read(model: TypeAdapter[T], entry: Entry) -> T | None:
    """What an entry says; None for what somebody wrote by hand and wrote wrong."""
    value: dict[str, Any] = dict(entry.value)
    if model is _JOB:
        value["revision"] = entry.revision
    try:
        found = model.validate_python(value)
    except ValidationError:
        return None
    return found if found.key == entry.key else None
