"""A bank with processes on the session's MongoDB: its commands, and what followed from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.commands import Connection
from pipeline.eventstore import EventStore
from pipeline.model.events import Event
from pipeline.model.process import Process
from pipeline.processes.metrics import ProcessMetrics
from pipeline.processes.reactions import Reactions
from tests.apps.cases import CASES, DESK, REMINDERS, Open

LATER = timedelta(days=1)


@dataclass
class World:
    store: EventStore
    connection: Connection
    cases: list[str] = field(default_factory=list)

    async def opened(self, after: int = 1, reminders: int = 1) -> str:
        """A new case, with so many reminders, each `after` some milliseconds."""
        done = await self.connection.create("case", Open(after, reminders))
        self.cases.append(done.after.id)
        return done.after.id

    def reactions(self, process: Process[Any] = REMINDERS) -> Reactions:
        """Of a worker that begins now."""
        return Reactions(process, self.store, self.connection, ProcessMetrics())

    async def reports(self, case: str) -> list[str]:
        """What the desk was told of a case, in order."""
        told = [each["body"] for each in await self.store.load(DESK)]
        return [each["what"] for each in told if each["case"] == case]

    async def reminders(self, case: str) -> list[int]:
        events: list[Event] = await self.store.load(case)
        return [each["body"]["number"] for each in events if each["kind"] == "CaseReminded"]

    async def kept(self, case: str) -> dict[str, Any]:
        return await self.store.processes.find(REMINDERS.name, case) or {}


@pytest.fixture
async def world(mongodb_store: EventStore) -> World:
    await mongodb_store.processes.setup()
    connection = Connection(CASES, mongodb_store)
    await connection.service.open()
    return World(mongodb_store, connection)


@pytest.fixture
def later() -> Callable[[], datetime]:
    """When every deadline of a test has come."""
    return lambda: datetime.now(UTC) + LATER
