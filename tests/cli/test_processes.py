"""`bank processes`: who runs a process, what waits, and another try for what is parked."""

import asyncio
import json
import os

from click.testing import CliRunner, Result

from pipeline.cli.main import main
from pipeline.commands import Connection
from pipeline.eventstore import EventStore
from pipeline.model.process import Process, Reaction, Send
from pipeline.processes.metrics import ProcessMetrics
from pipeline.processes.reactions import Reactions
from pipeline.support.settings import PREFIX, Settings, environment
from tests.apps.cases import CASES, Open, Touch, Watched

LOST = Process(
    "reminders",
    initial=Watched,
    react=lambda case, event: Reaction(case, [Send("ghost", "1", Touch())]),
    kinds=["CaseOpened"],
)


async def parked(settings: Settings) -> str:
    """A case whose process can't go on."""
    store = EventStore(settings.mongodb, settings.mongodb_database)
    connection = Connection(CASES, store)
    await connection.service.open()
    await store.processes.setup()
    case = (await connection.create("case", Open(60_000))).after.id
    await Reactions(LOST, store, connection, ProcessMetrics()).advance(case)
    await connection.close()
    return case


def test_it_lists_processes_and_has_parked_instances_tried_again(settings: Settings) -> None:
    of_cases = {"application": "tests.apps.cases:CASES", "projections": "cases"}
    settings = settings.model_copy(update=of_cases)
    case = asyncio.run(parked(settings))

    def bank(*words: str) -> Result:
        clean: dict[str, str | None] = {each: None for each in os.environ if PREFIX in each}
        environ = {**clean, **environment(settings), "COLUMNS": "200"}
        return CliRunner().invoke(main, ["processes", *words], env=environ)

    [shown] = json.loads(bank("--json").output)
    assert (shown["process"], shown["owner"], shown["lag_events"]) == ("reminders", None, None)
    [instance] = shown["parked"]
    assert (instance["id"], instance["version"], instance["attempts"]) == (case, 0, 1)
    listed = bank().output
    assert "nobody" in listed
    assert case in listed
    assert "has no aggregate" in listed
    assert bank("retry", "reminders", case).output == f"{case}: asked\n"
    refused = bank("retry", "reminders", "nobody")
    assert refused.exit_code == 1
    assert "is not parked" in refused.output
