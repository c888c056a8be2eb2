"""Instances answer who asks, and say goodbye, over a real NATS."""

import asyncio

import pytest

from pipeline.messaging import JetStream
from pipeline.messaging.instances import Questions, answering
from pipeline.support.readiness import Check, NotReady
from pipeline.support.self_report import Answer, SelfReport, Work
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


def report(role: str, name: str, done: dict[str, float], **checks: Check) -> SelfReport:
    return SelfReport(role, Work(lambda: done), checks, name)


@pytest.fixture
async def heard(js: JetStream) -> Heard:
    heard = Heard(js)
    await heard.questions.open()
    return heard


async def test_they_answer_while_they_run_and_say_goodbye(settings: Settings, heard: Heard) -> None:
    done = {"": 0.0}

    async def mongodb() -> None:
        raise NotReady("it is cold")

    async with (
        answering(settings, report("forwarder", "f1", done, mongodb=mongodb)),
        answering(settings, report("worker", "w1", {})),
    ):
        done[""] = 7

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
    async with asyncio.timeout(20), answering(away, report("accounts", "a1", {})):
        await asyncio.sleep(0)
