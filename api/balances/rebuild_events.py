"""`GET /rebuilds/{id}/events`: the progress of a rebuild. All clients share one reading."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Final, Literal

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from api.balances.rebuilds import Rebuilds, not_found, of_id
from api.http.operations import Answer, operation
from api.http.problems import Problem
from api.http.streams import EVENTS, EVERY, event, stream
from api.security.access import OBSERVERS, allowed
from pipeline.operations.status.rebuild_progress import as_json
from pipeline.support.shared_reading import SharedReading
from pipeline.tables.rebuild_jobs import RebuildJobs

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class EncodedRebuild:
    """A rebuild as JSON, and whether it is over."""

    data: bytes
    over: bool


class RebuildWatchers:
    """Rebuilds as JSON for the clients that follow them; read only while there are such clients."""

    def __init__(self, rebuilds: Rebuilds) -> None:
        self._rebuilds = rebuilds
        self._snapshot = SharedReading(self._read, EVERY)
        self._encoded: dict[str, EncodedRebuild] = {}

    async def encoded(self, job_id: str) -> EncodedRebuild | None:
        """The rebuild as JSON; None if there is none of that id. Problem 503
        `pipeline-unavailable`."""
        everything = await self._snapshot.get()
        encoded = self._encoded.get(job_id) or _encode(everything, job_id)
        if encoded is None:  # started after the shared reading, or unknown
            async with self._rebuilds.now() as everything:
                return _encode(everything, job_id)
        self._encoded[job_id] = encoded
        return encoded

    async def news(self, job_id: str, first: EncodedRebuild) -> AsyncGenerator[bytes | None, None]:
        """Events until the rebuild is over or forgotten; None for each reading without a change."""
        last: EncodedRebuild | None = first
        yield event("progress", first.data)
        while last is not None and not last.over:
            await asyncio.sleep(EVERY)
            try:
                now = await self.encoded(job_id)
            except Problem:  # NATS is down; the rebuild goes on when it is back
                now = last
            yield event("progress", now.data) if now is not None and now != last else None
            last = now
        if last is not None:
            yield event("end", last.data)

    async def close(self) -> None:
        await self._snapshot.close()

    async def _read(self) -> list[RebuildJobs]:
        async with self._rebuilds.now() as everything:
            # Those of the reading before: each rebuild is encoded once a reading, for all clients.
            self._encoded = {}
            return everything


class RebuildEvent(TypedDict):
    """An event; its `data` is the rebuild as `GET /rebuilds/{id}` shows it, in one line."""

    event: Literal["progress", "end"]
    data: str


WATCHING: Final = web.AppKey("watching", RebuildWatchers)


@routes.get("/rebuilds/{id}/events", allow_head=False)
@allowed(*OBSERVERS)
@operation(
    Answer({EVENTS: RebuildEvent}), "rebuild-not-found", "pipeline-unavailable", "too-many-streams"
)
async def rebuild_events(request: web.Request) -> web.StreamResponse:
    """A rebuild as it goes on: an event `progress` for each change, `end` when it is over."""
    watchers, job_id = request.app[WATCHING], request.match_info["id"]
    first = await watchers.encoded(job_id)
    if first is None:
        raise not_found(job_id)
    return await stream(request, watchers.news(job_id, first))


def _encode(everything: Iterable[RebuildJobs], job_id: str) -> EncodedRebuild | None:
    found = of_id(everything, job_id)
    if found is None:
        return None
    jobs, job = found
    return EncodedRebuild(orjson.dumps(as_json(job, jobs.parts(job))), not job.active)
