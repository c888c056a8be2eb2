"""What is said of a server that is away: once, however many tries that takes."""

import asyncio
import logging

import pytest
from elastic_transport import ConnectionError as ElasticAway
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from pipeline.coordination.leases import LeaseUnavailable
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStreamError
from pipeline.search import ProjectionUnavailable
from pipeline.support import retry
from pipeline.support.cancellation import cancel_and_wait
from pipeline.support.retry import Outage
from tests.harness import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WELL_SECONDS", 0.2)
    monkeypatch.setattr(retry, "PATIENCE", 0.05)


@pytest.fixture
def tried() -> Outage:
    return Outage(logging.getLogger("test"), "the server", first=0.001, most=0.002)


async def test_an_outage_is_said_once_at_each_end(
    tried: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    tried.over()
    for attempt in range(20):
        await tried.pause(OSError("refused"), attempt)
    tried.over()
    tried.over()
    await eventually(lambda: "works again" in caplog.text)
    assert [record.getMessage() for record in caplog.records] == [
        "the server: OSError: refused; trying until it works",
        "the server: works again",
    ]
    await tried.pause(OSError("refused"), 0)
    assert len(caplog.records) == 3


async def test_the_cause_is_said_again_now_and_then_and_sooner_when_it_changed(
    tried: Outage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_AGAIN", 0.3)
    monkeypatch.setattr(retry, "_CHANGED", 0.0)
    refused, full = OSError("refused"), JetStreamError(10023, "insufficient resources")
    for error in (refused, OSError("127.0.0.1:4222 refused"), full, refused, full):
        await tried.pause(error, 0)
    await asyncio.sleep(0.3)
    await tried.pause(JetStreamError(10077, "maximum bytes exceeded"), 0)
    await tried.pause(refused, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "the server: OSError: refused; trying until it works",
        "the server: still down, JetStreamError: insufficient resources (10023)",
        "the server: still down, JetStreamError: maximum bytes exceeded (10077)",
        "the server: still down, OSError: refused",
    ]
    await asyncio.sleep(0.3)
    await tried.pause(refused, 0)
    assert len(caplog.records) == 5


async def test_a_cause_that_changed_counts_behind_an_error_that_stays(
    tried: Outage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever befalls Redis is `LeaseUnavailable`."""
    monkeypatch.setattr(retry, "_CHANGED", 0.0)
    causes = (
        ConnectionRefusedError("port 1"),
        ConnectionRefusedError("port 2"),
        ConnectionRefusedError("no such host"),
        ValueError("READONLY You can't write"),
        ValueError("NOREPLICAS Not enough"),
    )
    for cause in causes:
        try:
            raise LeaseUnavailable(str(cause)) from cause
        except LeaseUnavailable as error:
            await tried.pause(error, 0)
    assert [
        record.getMessage().partition("LeaseUnavailable: ")[2] for record in caplog.records
    ] == [
        "port 1; trying until it works",
        "no such host",
        "READONLY You can't write",
        "NOREPLICAS Not enough",
    ]


async def test_one_that_fails_now_and_then_is_one_outage(
    tried: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        await tried.pause(OSError("busy"), 0)
        tried.over()
    assert len(caplog.records) == 1
    await eventually(lambda: len(caplog.records) == 2)


async def test_one_that_hangs_is_noticed(tried: Outage, caplog: pytest.LogCaptureFixture) -> None:
    with tried.noticing():
        pass
    with tried.noticing():
        await eventually(lambda: "no answer" in caplog.text)
        tried.over()  # another try, which had an answer
        await asyncio.sleep(0.3)
        assert len(caplog.records) == 1
    tried.over()
    await eventually(lambda: "works again" in caplog.text)
    await asyncio.sleep(0.1)
    assert len(caplog.records) == 2


async def test_a_call_is_repeated_until_it_works(
    tried: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError("refused"), OSError("refused"), ValueError("wrong")]

    async def call() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    with pytest.raises(ValueError, match="wrong"):
        await tried.retry_forever(call, OSError)
    assert await tried.retry_forever(call) == "done"
    await eventually(lambda: "works again" in caplog.text)
    assert len(caplog.records) == 2


async def test_some_failures_are_not_repeated(tried: Outage) -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise OSError("refused") if calls == 1 else LookupError("gone")

    with pytest.raises(LookupError):
        await tried.retry_forever(call, unless=(LookupError, ValueError))
    assert calls == 2


async def test_a_call_goes_on_for_ever_through_failures(
    tried: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    """It rests after a success, pauses after a failure, and each outage is one line at each end."""
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 3):
            raise OSError("refused")

    task = asyncio.create_task(tried.every(0.05, call))
    began = asyncio.get_running_loop().time()
    await eventually(lambda: calls >= 8)
    assert asyncio.get_running_loop().time() - began > 5 * 0.05
    await eventually(lambda: "works again" in caplog.text)
    await cancel_and_wait(task)
    assert len(caplog.records) == 2


async def test_only_the_failures_named_are_survived(tried: Outage) -> None:
    async def call() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await tried.every(0, call, OSError)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


MONGO = ServerSelectionTimeoutError("localhost:27017: [Errno 111], <TopologyDescription id: 6a1>")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (caused(StoreUnavailable(str(MONGO)), MONGO), "MongoDB does not answer"),
        (
            caused(StoreUnavailable("E11000 Ada"), OperationFailure("E11000 Ada", 11000)),
            "MongoDB answers with an error: OperationFailure",
        ),
        (
            caused(ProjectionUnavailable("ConnectionError: x"), ElasticAway("x")),
            "Elasticsearch does not answer",
        ),
        (JetStreamError(10023, "no room"), "JetStreamError: no room (10023)"),
        (StoreUnavailable("no primary"), "StoreUnavailable: no primary"),
    ],
)
async def test_readiness_tells_an_outage_in_words(
    tried: Outage, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr(retry, "TROUBLE_SECONDS", -1.0)
    await tried.pause(error, 0)
    assert tried.reason == words
