"""What a role says of itself: the counters that it hands in are the ones that it counts by."""

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from api.commands.outcomes import Outcomes
from api.http.metrics import Requests
from pipeline.agents.worker_metrics import WorkerMetrics
from pipeline.coordination.ownership import Ownership
from pipeline.forwarder.metrics import ForwarderMetrics
from pipeline.support.metrics import SECONDS
from pipeline.support.self_report import Answer, SelfReport, Work, answer_of
from pipeline.tables.counters import Counters

WIRE = (
    b'{"id":"01","role":"accounts","name":"a","missing":null,"warnings":{},'
    b'"done":{"accepted":2},"durations":[]}'
)
"""An answer as released processes send it: other releases must read it, and be read."""


def test_answers_are_those_of_other_releases() -> None:
    told = Answer("01", "accounts", "a", None, {}, {"accepted": 2.0}, [])
    assert answer_of(WIRE) == told
    assert answer_of(WIRE.replace(b'"id"', b'"host":"of a later release","id"')) == told


async def test_more_counters_than_an_answer_has_are_summed_up() -> None:
    done = {f"refusal-{number}": float(number) for number in range(600)}
    report = SelfReport("accounts", Work(lambda: done), {}, "a1")
    told = report.answer().done
    await report.close()
    assert len(told) == 500
    assert sum(told.values()) == sum(range(600))
    assert (told["refusal-599"], told["other"]) == (599, sum(range(101)))


def test_a_forwarder_tells_how_many_events_it_forwarded() -> None:
    metrics = ForwarderMetrics()
    metrics.counters.forwarded += 3
    assert metrics.work.done() == {"": 3}


def test_a_worker_tells_how_many_events_each_projection_applied() -> None:
    counters = Counters()
    counters.applied += 5
    agents = cast(Any, [SimpleNamespace(topic="balance", counters=counters)])
    assert WorkerMetrics(cast(Ownership, None), agents).work.done() == {"balance": 5}


def test_a_service_tells_of_its_commands_or_else_of_all_requests() -> None:
    registry = CollectorRegistry()
    requests, outcomes = Requests(registry), Outcomes(registry)
    requests.note("/create", "POST", 201, 0.004)
    requests.note("/{id}", "GET", 200, 0.004)
    outcomes.note("create", "accepted")
    outcomes.note("deposit", "accepted")
    outcomes.note("withdraw", "insufficient-funds")
    commands = requests.work(outcomes.totals)
    assert commands.done() == {"accepted": 2, "insufficient-funds": 1}
    assert commands.durations() == [0, 0, *[1] * (len(SECONDS) - 1)]
    assert requests.work(None).done() == {"": 2}
    assert requests.work(None).durations() == []
