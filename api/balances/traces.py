"""`GET /traces/{correlation_id}` and `GET /stages`: the way of a command, and its times.

What `bank trace` says, and besides when workers wrote each document: that is remembered for some
minutes, of what was written while this service ran.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from api.balances.connections import Connections
from api.balances.partitions import PartitionSnapshots
from api.balances.projected import ProjectionQuery, projection_of
from api.http.inputs import Input, query
from api.http.operations import json, operation
from api.http.problems import Problem, unavailable
from api.http.replies import reply
from api.http.shapes import readable
from api.security.access import READERS, allowed
from pipeline.banking.events import Transfer
from pipeline.messaging import JetStream
from pipeline.model.events import AGGREGATE_ID
from pipeline.operations.status.probe import Unknown
from pipeline.operations.trace.log_position import Logged
from pipeline.operations.trace.path import EventPath, trace_path
from pipeline.operations.trace.report import as_json
from pipeline.operations.trace.search import FoundEvents, search
from pipeline.operations.trace.stages import (
    MINUTES,
    Stage,
    StageFigures,
    figures,
    recent,
    stage_times,
    stages,
    unless_parked,
)
from pipeline.operations.trace.written import WrittenBatches
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.correlation import detached
from pipeline.support.logs import moment
from pipeline.support.retry import brief
from pipeline.support.shared_reading import SharedReading

MOST: Final = 20
"""Events of a command whose ways are told."""
_PATIENCE: Final = 4.0
"""Seconds that the search may take: the embedded MongoDB reads its whole store for it."""
_AT_ONCE: Final = 2
_DEADLINE: Final = 15.0
"""Seconds that an answer may take, with the time for which it waits until others are done."""
_RETRY_SECONDS: Final = 2.0
_EVERY: Final = 2.0
"""Seconds for which the figures of the stages are kept."""

log = logging.getLogger(__name__)

routes = web.RouteTableDef()


class TraceQuery(Input):
    """The parameters of `GET /traces/{correlation_id}`."""

    account: Annotated[str, Field(pattern=f"^{AGGREGATE_ID}$")] | None = None
    """An account of the command: only its events and those of its transfers are searched. Needed
    for an id that the client gave more than an hour ago."""


class StreamPlace(TypedDict):
    """Where an event's message is in the stream, and since when."""

    subject: str
    sequence: int
    at: str


class ProjectedEvent(TypedDict, total=False):
    """How far a projection is: `passed` says whether all up to the event is in the live index.
    What is null is unknown, with the reason beside it in a field that ends with `_unknown`."""

    projection: str
    left_out: bool
    index: str | None
    position: int | None
    passed: bool | None
    document_version: int | None
    parked: Any
    stages: list[Stage]


class TracedEvent(TypedDict, total=False):
    """An event and its way; as above."""

    event_id: str
    account_id: str | None
    version: int | None
    kind: str | None
    transfer: readable(Transfer) | None  # type: ignore[valid-type]
    causation_id: str | None
    stored_at: str | None
    stream: StreamPlace | None
    projections: list[ProjectedEvent]


class Trace(TypedDict):
    """The events of a command. `made_at`: when its request came, if the service made the id;
    `searched`: from when to when events were searched, null for those of an account; `complete`:
    there was the time for all of that. `noted_since`: what was written before in a partition of
    these events, or while that is null, may have no times from the worker on."""

    correlation_id: str
    made_at: str | None
    searched: list[str] | None
    complete: bool
    noted_since: str | None
    events: list[TracedEvent]


class Stages(TypedDict):
    """The figures of each stage, of the last events of so many minutes, a thousand at most."""

    minutes: int
    events: int
    data: list[StageFigures]


class Traces:
    """The ways of commands, for the service's lifetime."""

    def __init__(self, connections: Connections, snapshots: PartitionSnapshots) -> None:
        self._connections = connections
        self._readers = {each.projection: each.reader for each in snapshots.shown}
        self._written = {each: WrittenBatches() for each in self._readers}
        self._stages = {
            each.name: SharedReading(partial(self._read, written), _EVERY)
            for each, written in self._written.items()
        }
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Note from now on what workers write, as soon as NATS answers."""
        self._listening = detached(self._listen())

    async def stages(self, projection: str) -> Stages:
        """Problem 503 `pipeline-unavailable` unless NATS answers."""
        return await self._stages[projection].get()

    async def trace(self, correlation_id: str, account_id: str | None) -> dict[str, Any]:
        """The way; problems 404 `trace-not-found` and 503 `store-unavailable`. Raises
        `StoreUnavailable`."""
        try:
            async with asyncio.timeout(_DEADLINE), self._room:
                found, paths = await self._found(correlation_id, account_id)
        except TimeoutError:
            detail = f"No answer within {_DEADLINE:.0f} s; {_AT_ONCE} traces are searched at once."
            raise unavailable("store-unavailable", detail) from None
        report = as_json(correlation_id, found, paths)
        if not paths:
            raise _not_found(report)
        report["noted_since"] = self._noted_since(paths)
        for shown, path in zip(report["events"], paths, strict=True):
            message = None if isinstance(path.logged, Unknown) else path.logged
            for each, written in zip(shown["projections"], self._written.values(), strict=False):
                times = stage_times(path.event, message, written)
                parked_at = each["parked"] and each["parked"]["version"]
                each["stages"] = stages(unless_parked(times, shown["version"], parked_at))
        return report

    async def _found(
        self, correlation_id: str, account_id: str | None
    ) -> tuple[FoundEvents, list[EventPath]]:
        found = await search(
            self._connections.store, correlation_id, account_id=account_id, patience=_PATIENCE
        )
        readers = [*self._readers.values()]
        paths = await asyncio.gather(*(trace_path(each, readers) for each in found.events[:MOST]))
        return found, paths

    async def close(self) -> None:
        for each in self._stages.values():
            await each.close()
        if self._listening is not None:
            await cancel_and_wait(self._listening)

    async def _listen(self) -> None:
        js = await self._connected()
        for projection, written in self._written.items():
            await written.listen(js, projection)

    def _noted_since(self, paths: Iterable[EventPath]) -> str | None:
        """From when on all that was written is known, in each partition of these events."""
        logged = (each.logged for each in paths)
        partitions = {each.partition for each in logged if isinstance(each, Logged)}
        every = [
            written.complete_since(each)
            for written in self._written.values()
            for each in partitions or {None}
        ]
        known = [each for each in every if each is not None]
        if len(known) < len(every):
            return None
        return moment(max(self._connections.reconnected_at, *known))

    async def _connected(self) -> JetStream:
        while True:
            try:
                return await self._connections.connected()
            except Exception as error:  # a server that is too old, a file that is gone
                log.debug("NATS: %s", brief(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, written: WrittenBatches) -> Stages:
        async with self._connections.jetstream() as js:
            found = await recent(js, written)
        return Stages(minutes=MINUTES, events=len(found), data=figures(found))


TRACES: Final = web.AppKey("traces", Traces)


@routes.get("/traces/{correlation_id:.{1,100}}")
@allowed(*READERS)
@operation(json(Trace), "trace-not-found", "store-unavailable", query=TraceQuery)
async def trace(request: web.Request) -> web.Response:
    """The way of a command's events, by the correlation id of its request, with the time of each
    stage.

    What is null is unknown, and said why, or has not happened yet.
    """
    asked = query(request, TraceQuery)
    found = await request.app[TRACES].trace(request.match_info["correlation_id"], asked.account)
    return reply(found, headers={"Cache-Control": "no-store"})


@routes.get("/stages")
@allowed(*READERS)
@operation(json(Stages), "projection-not-found", "pipeline-unavailable", query=ProjectionQuery)
async def stage_figures(request: web.Request) -> web.Response:
    """How long each stage took lately, from the request to the reader.

    When documents were written is known only of what was written while this service ran.
    """
    return reply(await request.app[TRACES].stages(projection_of(request).name))


def _not_found(report: dict[str, Any]) -> Problem:
    where = "in that account"
    if (searched := report["searched"]) is not None:
        where = f"from {searched[0]} to {searched[1]}"
    if not report["complete"]:
        where += ", where there was not the time to search all that was asked for"
    return Problem(404, "trace-not-found", f"No event of that correlation id was found {where}.")
