"""The routes of rebuilds: start or join, list, show, cancel."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.balances.projected import no_projection
from api.http.headers import LOCATION
from api.http.inputs import Input, body
from api.http.operations import json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import Page
from api.security.access import OBSERVERS, OPERATOR, allowed
from api.security.audited import audited
from api.security.csrf import typed
from pipeline.coordination.partitioning import MOST
from pipeline.messaging import JetStream
from pipeline.operations.rebuild_requests import Asked, NoSuchPartition, start
from pipeline.operations.status.rebuild_progress import State, as_json
from pipeline.support.settings import Settings
from pipeline.tables.rebuild_job import Busy, Kind, NoSuchJob, PartState, Phase, RebuildJob
from pipeline.tables.rebuild_jobs import RebuildJobs

routes = web.RouteTableDef()

Number = Annotated[int, Field(ge=0, lt=MOST)]


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


class RebuildInput(Input):
    """The body of `POST /balance/rebuild`; all of it may be left out."""

    partitions: Annotated[list[Number], Field(min_length=1, max_length=MOST)] | None = None
    """Only these, in place; by default all."""
    in_place: bool | None = None
    """Repair the live generation instead of building a new one."""
    max_concurrent: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """How many partitions at a time; by default 1."""

    def asked(self) -> Asked:
        """The rebuild to start; problem 400 if the fields contradict each other."""
        if self.partitions and self.in_place is False:
            raise _invalid("#/in_place", "Certain partitions are only ever rebuilt in place")
        return Asked(self.partitions or (), bool(self.in_place), self.max_concurrent or 1)


class Rebuilds:
    """The rebuilds of all projections, for the service's lifetime."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections, self._settings = connections, settings
        self._projections = settings.kept
        self._jobs: list[RebuildJobs] = []

    @asynccontextmanager
    async def now(self) -> AsyncIterator[list[RebuildJobs]]:
        """The rebuilds of each projection as they are now; problem 503 `pipeline-unavailable`."""
        async with self._connections.jetstream() as js:
            everything = self._on(js)
            await asyncio.gather(*(jobs.refresh() for jobs in everything))
            yield everything

    async def start(self, projection: str, asked: Asked) -> dict[str, Any]:
        """Start the rebuild, or join the same one if it runs; problems 400, 404 and 409."""
        async with self._connections.jetstream() as js:
            jobs = self._of(projection, js)
            try:
                job, _ = await start(js, jobs, asked, expected=self._settings.partitions)
            except NoSuchPartition as error:
                raise _invalid("#/partitions", str(error).rstrip(".")) from error
            except Busy as error:
                raise _busy(error.job) from error
            return as_json(job, jobs.parts(job))

    def _of(self, projection: str, js: JetStream) -> RebuildJobs:
        for jobs in self._on(js):
            if jobs.projection.name == projection:
                return jobs
        raise no_projection(projection)

    def _on(self, js: JetStream) -> list[RebuildJobs]:
        self._jobs = self._jobs or [RebuildJobs(js, each) for each in self._projections]
        return self._jobs


REBUILDS: Final = web.AppKey("rebuilds", Rebuilds)

_ACCEPTED: Final = json(Rebuild, LOCATION, status=202)
_MAY_END: Final = ("projection-not-found", "rebuild-busy", "pipeline-unavailable")


@routes.post("/{projection}/rebuild")
@allowed(OPERATOR)
@audited("rebuild-started")
@operation(_ACCEPTED, *_MAY_END, body=RebuildInput, body_required=False)
async def rebuild(request: web.Request) -> web.Response:
    """Start a rebuild of the projection from the events, or join the one that does the same."""
    # The guard may have read the body already; one sent in chunks may turn out to be empty.
    given = request.can_read_body or (request.body_exists and await request.read())
    wanted = await body(request, RebuildInput) if given else RebuildInput()
    return _accepted(await _started(request, wanted.asked()))


@routes.get("/{projection}/rebuild", allow_head=False)
@allowed(OPERATOR)
@audited("rebuild-started")
@typed
@operation(_ACCEPTED, *_MAY_END)
async def rebuild_by_get(request: web.Request) -> web.Response:
    """The same as a POST without a body: what people type into a browser's address line."""
    return _accepted(await _started(request, Asked()))


@routes.get("/rebuilds")
@allowed(*OBSERVERS)
@operation(json(Page[Rebuild]), "pipeline-unavailable")
async def rebuilds(request: web.Request) -> web.Response:
    """The rebuilds that are still known, the last one first."""
    async with request.app[REBUILDS].now() as everything:
        found = [(job, jobs.parts(job)) for jobs in everything for job in jobs.all()]
    found.sort(key=lambda each: each[0].id, reverse=True)
    data = [as_json(job, parts) for job, parts in found]
    return reply({"data": data, "has_more": False})


@routes.get("/rebuilds/{id}")
@allowed(*OBSERVERS)
@operation(json(Rebuild), "rebuild-not-found", "pipeline-unavailable")
async def one(request: web.Request) -> web.Response:
    """A rebuild, and how far it is."""
    async with request.app[REBUILDS].now() as everything:
        jobs, job = _found(everything, request)
        return reply(as_json(job, jobs.parts(job)))


@routes.delete("/rebuilds/{id}")
@allowed(OPERATOR)
@audited("rebuild-cancelled")
@operation(_ACCEPTED, "rebuild-not-found", "rebuild-finished", "pipeline-unavailable")
async def cancel(request: web.Request) -> web.Response:
    """Call a rebuild off: workers drop what they built.

    One that is called off already stays so.
    """
    async with request.app[REBUILDS].now() as everything:
        jobs, found = _found(everything, request)
        job_id = found.id
        try:
            job = await jobs.cancel(job_id)
        except NoSuchJob as error:
            raise not_found(job_id) from error
        if job.phase != "cancelled":
            raise _finished(job)
        return _accepted(as_json(job, jobs.parts(job)))


def not_found(job_id: str) -> Problem:
    return Problem(404, "rebuild-not-found", f"There is no rebuild {job_id}, or it is long over.")


def of_id(everything: Iterable[RebuildJobs], job_id: str) -> tuple[RebuildJobs, RebuildJob] | None:
    """A rebuild by its id, and the list of its projection."""
    for jobs in everything:
        if (job := jobs.job(job_id)) is not None:
            return jobs, job
    return None


def _found(
    everything: Iterable[RebuildJobs], request: web.Request
) -> tuple[RebuildJobs, RebuildJob]:
    job_id = request.match_info["id"]
    found = of_id(everything, job_id)
    if found is None:
        raise not_found(job_id)
    return found


async def _started(request: web.Request, asked: Asked) -> dict[str, Any]:
    return await request.app[REBUILDS].start(request.match_info["projection"], asked)


def _accepted(shown: dict[str, Any]) -> web.Response:
    headers = {"Location": f"/rebuilds/{shown['id']}", "Cache-Control": "no-store"}
    return reply(shown, status=202, headers=headers)


def _busy(job: RebuildJob) -> Problem:
    return Problem(
        409, "rebuild-busy", f"Another rebuild runs: {job.id} ({job.kind}).", rebuild=job.id
    )


def _finished(job: RebuildJob) -> Problem:
    why = "readers see its generation already" if job.active else f"it is {job.phase}"
    return Problem(
        409, "rebuild-finished", f"Rebuild {job.id} can't be called off: {why}.", rebuild=job.id
    )


def _invalid(pointer: str, detail: str) -> Problem:
    fault = {"pointer": pointer, "detail": detail}
    where = pointer.removeprefix("#/")
    return Problem(400, "invalid-input", f"{where}: {detail}.", errors=[fault])
