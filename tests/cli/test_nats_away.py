"""Commands that follow something while NATS is away: they wait, say what they know, and end by the
outcome. (`bank rebuild --wait` is in `test_rebuild_commands.py`.)"""

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.cli import keys as commands
from pipeline.cli.connections import NATS_DOWN, until_answered
from pipeline.cli.failures import CommandFailed
from pipeline.cli.repartition import ask, follow
from pipeline.coordination.partitioning import ensure_log
from pipeline.coordination.repartition_requests import RepartitionRequest, RepartitionRequests
from pipeline.embedded.servers import EmbeddedServers, Server
from pipeline.messaging import JetStream, JetStreamError, Refused, checked
from pipeline.messaging.kv import Overtaken
from pipeline.operations import audit, keys
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.conftest import placed
from tests.harness import LONG_LANE, Role, eventually
from tests.names import STREAM
from tests.services import NOBODY

UNKNOWN = "8 partitions were asked for, which is not confirmed yet"


class Away:
    """A command that has asked for 8 partitions, and then its server is killed."""

    def __init__(self, server: Server, js: JetStream, command: Role) -> None:
        self.server, self.command = server, command
        self.requests = RepartitionRequests(js)

    async def back(self) -> RepartitionRequest:
        """Start the server; the request, which it has kept."""
        await self.server.start()
        request = await eventually(self.requests.last)
        assert request is not None
        return request


@asynccontextmanager
async def alone(scratch: Path) -> AsyncIterator[tuple[Settings, Server, JetStream]]:
    """A nats-server of this test alone, to kill, with a connection."""
    embedded = EmbeddedServers(placed(scratch), ["nats"])
    await embedded.start()
    server = embedded.servers["nats"]
    js = await JetStream.connect(server.url, "test")
    try:
        yield embedded.settings, server, js
    finally:
        await js.close()
        await embedded.stop()


@asynccontextmanager
async def away(scratch: Path) -> AsyncIterator[Away]:
    async with alone(scratch) as (settings, server, js):
        await ensure_log(js, settings.model_copy(update={"partitions": 4}))
        async with Role(settings, "bank", "repartition", "8") as command:
            await eventually(lambda: "Asked the leading forwarder" in command.log())
            await server.kill(signal.SIGKILL)
            await eventually(lambda: f"{NATS_DOWN}. {UNKNOWN}" in command.log())
            yield Away(server, js, command)


async def test_it_waits_and_tells_the_outcome(scratch: Path) -> None:
    async with away(scratch) as bank:
        request = await bank.back()
        await bank.requests.change(request, state="done", before=4, at=9, seconds=0.25)
        assert await bank.command.wait() == 0
        told = "4 -> 8 partitions; the forwarder stood still for 0.25 s"
        assert told in bank.command.log()


@LONG_LANE
async def test_refused_meanwhile_is_a_failure(scratch: Path) -> None:
    async with away(scratch) as bank:
        request = await bank.back()
        await bank.requests.change(request, state="refused", reason="nobody reads")
        assert await bank.command.wait() == 1
        assert "bank: nobody reads; nothing was changed" in bank.command.log()


@LONG_LANE
async def test_interrupted_meanwhile_it_does_not_say_that_it_failed(scratch: Path) -> None:
    async with away(scratch) as bank:
        await bank.command.kill(signal.SIGINT)
        assert await bank.command.wait() == 130
        assert f"bank: interrupted: {UNKNOWN}; `bank repartition` shows" in bank.command.log()
        assert (await bank.back()).state == "wanted"


async def test_a_request_whose_answer_was_lost_is_asked_once(
    js: JetStream, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The first write lands, and only its answer is lost."""
    await ensure_log(js, settings.model_copy(update={"partitions": 4}))
    publish, lost = JetStream.publish, [TimeoutError("no answer")]

    async def losing(*given: object, **options: object) -> int:
        sequence = await publish(*given, **options)  # type: ignore[arg-type]
        if lost:
            raise lost.pop()
        return sequence

    requests = RepartitionRequests(js)
    first = await requests.ask(6, 1)
    await requests.change(first, state="refused")
    monkeypatch.setattr(JetStream, "publish", losing)
    with pytest.raises(CommandFailed, match="no forwarder leads, so the request is withdrawn"):
        await ask(settings.model_copy(update={"lease_seconds": 0.5}), 8, 0)
    assert not lost
    last = await requests.last()
    assert last is not None
    assert (last.to, last.state) == (8, "withdrawn")


async def test_a_later_request_does_not_hide_the_outcome(
    js: JetStream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = await ensure_log(js, settings.model_copy(update={"partitions": 4}))

    async def overtaken(*_: object) -> RepartitionRequest:
        state = await js.state(STREAM)
        assert state is not None
        after = now.followed_by(8, state.last + 1, (0, 0, 0, 0))
        await js.publish_batch([after.message(js.names)], state.last)
        raise Overtaken("there is a later request")

    monkeypatch.setattr("pipeline.cli.repartition.follow", overtaken)
    assert await ask(settings, 8, 0) == "4 -> 8 partitions; there is a later request"
    monkeypatch.setattr("pipeline.cli.repartition.follow", _later)
    await RepartitionRequests(js).change(await _open(js), state="refused")
    with pytest.raises(CommandFailed, match="a later request; 8 partitions are in force"):
        await ask(settings, 6, 0)


async def _open(js: JetStream) -> RepartitionRequest:
    found = await RepartitionRequests(js).last()
    assert found is not None
    return found


async def _later(*_: object) -> RepartitionRequest:
    raise Overtaken("there is a later request")


async def test_the_deadline_does_not_run_while_nats_is_away(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forwarder could not have answered either, and has its time after that."""
    requests = RepartitionRequests(js)
    request = await requests.ask(8, 5)
    again, errors, answers = RepartitionRequests.again, [TimeoutError()] * 3, 0

    async def silent(self: RepartitionRequests, known: RepartitionRequest) -> RepartitionRequest:
        nonlocal answers
        if errors:
            raise errors.pop()
        answers += 1
        return await again(self, known)

    monkeypatch.setattr(RepartitionRequests, "again", silent)
    monkeypatch.setattr("pipeline.messaging.answers._AGAIN_SECONDS", 1.0)
    ended = await follow(requests, request, time.monotonic() + 2)
    assert ended.state == "withdrawn"
    assert answers >= 3


@asynccontextmanager
async def retrying(scratch: Path, wait: int) -> AsyncIterator[tuple[Server, JetStream, Role]]:
    """A command that has asked for a retry of a parked account."""
    async with alone(scratch) as (settings, server, js):
        parked = ParkedAccountList(js, BALANCE)
        await parked.park(NOBODY, version=1, event_id="e", kind="k", reason="r")
        async with Role(
            settings, "bank", "parked", "retry", NOBODY, "--wait", f"{wait}"
        ) as command:
            await eventually(lambda: asked(parked))
            yield server, js, command


async def test_a_retry_is_followed(scratch: Path) -> None:
    async with retrying(scratch, 60) as (server, js, command):
        await server.kill()
        await server.start()
        await eventually(lambda: ParkedAccountList(js, BALANCE).drop(NOBODY))
        assert await command.wait(60) == 0
        assert f"{NOBODY}: applied" in command.log()


async def test_a_retry_that_is_not_answered_stays_asked(scratch: Path) -> None:
    async with retrying(scratch, 8) as (server, js, command):
        await eventually(lambda: parked_lines(js))
        await server.kill()
        assert await command.wait(60) == 1
        assert f"{NOBODY}: NATS did not answer within 8 s; it stays asked" in command.log()


async def asked(parked: ParkedAccountList) -> bool:
    await parked.refresh()
    return parked[NOBODY].retry


async def parked_lines(js: JetStream) -> bool:
    """Whether the command has written its line of the audit log, after which it waits."""
    return await js.last_message("audit", "audit.parked-retry") is not None


@LONG_LANE
async def test_the_audit_log_is_followed(scratch: Path) -> None:
    async with alone(scratch) as (settings, server, js):

        async def written(target: str) -> bool:
            await audit.ensure(js, settings)
            line = audit.new_line("seal", audit.ANONYMOUS, service="x", target=target)
            await audit.write(js, line)
            return True

        await written("first")
        async with Role(settings, "bank", "audit", "--follow") as command:
            await eventually(lambda: "first" in command.log())
            await server.kill()
            await eventually(lambda: NATS_DOWN in command.log())
            await server.start()
            await eventually(lambda: written("second"))
            await eventually(lambda: "second" in command.log())
            assert command.log().count("first") == 1


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Subjects of which the next message is stored, and only the answer to it is lost."""
    publish, lost = JetStream.publish, list[str]()

    async def published(self: JetStream, subject: str, *given: object, **options: object) -> int:
        sequence = await publish(self, subject, *given, **options)  # type: ignore[arg-type]
        if subject in lost:
            lost.remove(subject)
            raise TimeoutError("no answer")
        return sequence

    monkeypatch.setattr(JetStream, "publish", published)
    return lost


async def test_a_key_is_made_and_revoked_although_the_answers_are_lost(
    js: JetStream, settings: Settings, losing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = keys.new(keys.Role.VIEWER)
    subject = f"$KV.keys.{key.id}"
    losing.append(subject)
    await commands._put(settings, key)
    assert f"{NATS_DOWN}. Whether the key {key.id} is stored is not" in capsys.readouterr().err
    assert [*(await keys.bucket(js).entries())] == [key.id]
    losing.append(subject)
    await commands._revoke(settings, [key.id])
    said = capsys.readouterr()
    assert f"{NATS_DOWN}. Whether {key.id} is revoked is not" in said.err
    assert f"{key.id}: revoked" in said.out
    assert losing == []
    assert await keys.bucket(js).entries() == {}


async def test_who_follows_nothing_waits_for_an_election_and_not_for_ever() -> None:
    answers = [JetStreamError(10008, "JetStream system temporarily unavailable")] * 3

    async def silent() -> None:
        raise answers.pop()

    with pytest.raises(JetStreamError):
        await until_answered(silent, seconds=0)
    assert len(answers) == 2
    with pytest.raises(IndexError):
        await until_answered(silent, seconds=60)


async def test_what_the_server_refuses_as_it_is_is_not_asked_again() -> None:
    errors = [{"code": 503, "err_code": 10008}, {"code": 400, "err_code": 10025}]

    async def refused() -> None:
        checked({"error": errors.pop(0) | {"description": "no"}})

    with pytest.raises(Refused):
        await until_answered(refused)
    assert errors == [], "the first one may pass"
