"""Instances answer who asks, and say goodbye, over a real NATS."""

import asyncio

import pytest
from prometheus_client import Counter

from pipeline.messaging import JetStream
from pipeline.messaging.instances import Answer, Questions, answering
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import NotReady
from pipeline.support.settings import Settings
from tests.harness import eventually


class Heard:
    """What somebody who asks has heard."""

    def __init__(self, js: JetStream) -> None:
        self.answers: dict[str, Answer] = {}
        self.gone: list[str] = []
        self.questions = Questions(js, self._answered, self.gone.append)

    def _answered(self, answer: Answer) -> None:
        self.answers[answer.name] = answer

    async def says(self, name: str) -> Answer:
        """What the instance of that name answers now."""
        self.answers.pop(name, None)

        async def asked() -> Answer | None:
            await self.questions.ask()
            return self.answers.get(name)

        found = await eventually(asked, message=f"{name} answers")
        assert found is not None
        return found


@pytest.fixture
async def heard(js: JetStream) -> Heard:
    heard = Heard(js)
    await heard.questions.open()
    return heard


async def test_they_answer_while_they_run_and_say_goodbye(settings: Settings, heard: Heard) -> None:
    metrics = Metrics("forwarder")
    events = Counter("bank_forwarder_events", "Events", registry=metrics.registry)

    async def mongodb() -> None:
        raise NotReady("it is cold")

    async with (
        answering(settings, metrics, {"mongodb": mongodb}, "f1"),
        answering(settings, Metrics("worker"), {}, "w1"),
    ):
        events.inc(7)

        async def complete() -> Answer:
            found = await heard.says("f1")
            assert found.missing is not None
            return found

        found = await eventually(complete)
        assert (found.role, found.missing) == ("forwarder", {"mongodb": "it is cold"})
        assert found.done == {"": 7}
        assert (await heard.says("w1")).done == {}
        assert heard.gone == []
    await eventually(lambda: found.id in heard.gone, message="it says goodbye")


async def test_more_counters_than_an_answer_has_are_summed_up(
    settings: Settings, heard: Heard
) -> None:
    metrics = Metrics("accounts")
    commands = Counter("bank_commands", "Commands", ("outcome",), registry=metrics.registry)
    for number in range(600):
        commands.labels(f"refusal-{number}").inc(number)
    async with answering(settings, metrics, {}, "a1"):
        done = (await heard.says("a1")).done
    assert len(done) == 500
    assert sum(done.values()) == sum(range(600))
    assert (done["refusal-599"], done["other"]) == (599, sum(range(101)))


async def test_what_is_no_answer_is_logged_once(
    js: JetStream, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        await js.nc.publish(heard.questions._inbox, b"{}")
    await eventually(lambda: "can't be read" in caplog.text)
    await js.nc.flush()
    assert caplog.text.count("can't be read") == 1


async def test_without_nats_a_role_begins_and_ends_all_the_same(settings: Settings) -> None:
    away = settings.model_copy(update={"nats_url": "nats://127.0.0.1:1"})
    async with asyncio.timeout(20), answering(away, Metrics("accounts"), {}):
        await asyncio.sleep(0)
