"""A request to a server that has just died, or while a leader is elected, gets no answer."""

import asyncio
from typing import Any

import nats.errors
import pytest

from pipeline.messaging import JetStream, client, fast_path
from tests.harness import eventually
from tests.names import STREAM


@pytest.fixture
def sent(js: JetStream, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of all requests, of which the first one gets lost."""
    publish, subjects = js.nc.publish, list[str]()

    async def losing(subject: str, *args: Any, **options: Any) -> None:
        subjects.append(subject)
        if len(subjects) > 1:
            await publish(subject, *args, **options)

    monkeypatch.setattr(js.nc, "publish", losing)
    return subjects


async def test_a_question_is_asked_again(js: JetStream, sent: list[str]) -> None:
    assert await js.state(STREAM) is None
    assert sent == [f"$JS.API.STREAM.INFO.{STREAM}"] * 2


async def test_a_change_is_not_asked_for_again(
    js: JetStream, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has to look whether it was made."""
    monkeypatch.setattr(client, "_TIMEOUT", 1.5)
    with pytest.raises(nats.errors.TimeoutError):
        await js.api(f"STREAM.DELETE.{STREAM}")
    assert sent == [f"$JS.API.STREAM.DELETE.{STREAM}"]


@pytest.fixture
def held(js: JetStream, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The questions to a server that is slow: each is sent when it is called."""
    publish, questions = js.nc.publish, list[Any]()

    async def holding(*args: Any, **options: Any) -> None:
        questions.append(lambda: publish(*args, **options))

    monkeypatch.setattr(js.nc, "publish", holding)
    monkeypatch.setattr(fast_path, "_AGAIN_SECONDS", 0.1)
    return questions


async def test_a_slow_server_is_not_asked_more_and_more(
    js: JetStream, held: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", 3.0)
    with pytest.raises(nats.errors.TimeoutError):
        await js.state(STREAM)
    assert len(held) <= 5, "after 0.1, 0.3, 0.7 and 1.5 s"


async def test_a_server_that_was_slow_has_more_time_for_its_next_answer(
    js: JetStream, held: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", 30.0)
    asked = asyncio.create_task(js.state(STREAM))
    await asyncio.sleep(0.6)  # so slow it is
    await held[0]()
    assert await asked is None
    held.clear()
    monkeypatch.setattr(client, "_TIMEOUT", 3.0)
    with pytest.raises(nats.errors.TimeoutError):
        await js.state(STREAM)
    assert len(held) <= 2, "after a third of the time"


async def test_a_question_is_asked_again_however_slow_the_last_answer_was(
    js: JetStream, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(js.nc, "_answer_seconds", 60.0)
    assert await js.state(STREAM) is None
    assert sent == [f"$JS.API.STREAM.INFO.{STREAM}"] * 2


@pytest.mark.parametrize("event", ["silence", "reconnect"])
async def test_how_slow_it_was_is_forgotten(
    js: JetStream, held: list[Any], event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(js.nc, "_answer_seconds", 60.0)
    if event == "silence":
        monkeypatch.setattr(client, "_TIMEOUT", 0.1)
        with pytest.raises(nats.errors.TimeoutError):
            await js.state(STREAM)
    else:
        await js.nc.force_reconnect()
        await eventually(lambda: js.nc.stats["reconnects"] and js.nc.is_connected)
    held.clear()
    monkeypatch.setattr(client, "_TIMEOUT", 60.0)
    asked = asyncio.create_task(js.state(STREAM))
    await eventually(lambda: len(held) > 2, seconds=20)
    await held[-1]()
    assert await asked is None
