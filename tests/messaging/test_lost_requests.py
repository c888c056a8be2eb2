"""A request to a server that has just died, or while a leader is elected, gets no answer."""

from typing import Any

import nats.errors
import pytest

from pipeline.messaging import JetStream, client
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
