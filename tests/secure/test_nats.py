"""NATS: each way to say who we are, no word of it without TLS, and refusals that end again."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from pipeline.banking.balance import BALANCE
from pipeline.embedded.processes import Children
from pipeline.messaging import JetStream
from pipeline.messaging.instances import Questions, answering
from pipeline.messaging.news import announce, news_of
from pipeline.messaging.notifications import WrittenBatch, notifications_of, notify
from pipeline.operations import audit
from pipeline.operations.keys import bucket
from pipeline.support.self_report import Answer, SelfReport, Work
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import Servers, eventually
from tests.secure.jwt import Nkey, Operator
from tests.secure.servers import USER, nats, shown, violations
from tests.secure.why import lets_in, why_not


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    made = Children()
    yield made
    await made.close()


async def told(
    children: Children, scratch: Path, made: Path, authorization: str, **ways: Any
) -> Settings:
    """Settings for a server with that configuration."""
    url = await nats(children, scratch, made, authorization)
    named = {f"nats_{name}": value for name, value in ways.items()}
    return placed(scratch / "bank", nats_url=url, **shown(made, "nats"), **named)


async def test_by_a_token(children: Children, scratch: Path, made: Path) -> None:
    authorization = "authorization { token: a-token-of-nats }"
    settings = await told(
        children, scratch, made, authorization, token=SecretStr("a-token-of-nats")
    )
    assert await eventually(lambda: lets_in("nats", settings))
    wrong = settings.model_copy(update={"nats_token": SecretStr("another")})
    assert "BANK_NATS_TOKEN" in await why_not("nats", wrong)


async def test_by_an_nkey(children: Children, scratch: Path, made: Path) -> None:
    key, other = Nkey.new(), Nkey.new()
    authorization = f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"
    settings = await told(children, scratch, made, authorization, nkey=SecretStr(key.seed))
    assert await eventually(lambda: lets_in("nats", settings))
    wrong = settings.model_copy(update={"nats_nkey": SecretStr(other.seed)})
    assert "BANK_NATS_NKEY" in await why_not("nats", wrong)


async def test_by_a_credentials_file_that_is_read_again(
    children: Children, scratch: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pipeline.messaging")
    operator, file = Operator.new(), scratch / "bank.creds"
    file.write_text(operator.creds(Nkey.new()))
    settings = await told(children, scratch, made, operator.configuration(), creds_file=file)
    assert await eventually(lambda: lets_in("nats", settings))
    js = await JetStream.connect(settings.nats, "test")
    try:
        file.write_text(Operator.new().creds(Nkey.new()))
        assert "BANK_NATS_CREDS_FILE" in await why_not("nats", settings)
        await js.nc.force_reconnect()
        assert await eventually(lambda: "refuses our credentials" in caplog.text)
        file.write_text("cut short")
        assert await eventually(lambda: "not a credentials file" in caplog.text)
        file.write_text(operator.creds(Nkey.new()))
        assert await eventually(lambda: js.nc.is_connected)
        await js.ping()
    finally:
        await js.close()


async def test_the_user_of_the_script_may_ask_answer_tell_and_store(
    children: Children, scratch: Path, made: Path
) -> None:
    authorization = (made / "nats" / "authorization.conf").read_text()
    password = SecretStr((made / "bank" / "nats_password").read_text().strip())
    settings = await told(children, scratch, made, authorization, user=USER, password=password)
    assert await eventually(lambda: lets_in("nats", settings))
    js = await JetStream.connect(settings.nats, "test")
    answers, seen = list[Answer](), list[Msg]()

    async def see(message: Msg) -> None:
        seen.append(message)

    async def asked() -> bool:
        await questions.ask()
        return bool(answers)

    try:
        questions = Questions(js, answers.append, lambda _: None)
        await questions.open()
        await js.nc.subscribe(notifications_of(BALANCE), cb=see)
        async with answering(settings, SelfReport("worker", Work(dict), {})):
            assert await eventually(asked)
        async with news_of(js, "keys") as news:
            await announce(js, "keys")
            assert await eventually(lambda: news.came)
        await notify(js, BALANCE, 0, 2, WrittenBatch(1, 1, 0.0, 0.0))
        assert await eventually(lambda: seen)
        await bucket(js).ensure()
        await audit.ensure(js, settings)
        await audit.write(js, audit.new_line("seal", audit.ANONYMOUS, service="test"))
        assert [line["action"] async for _, line in audit.read(js)] == ["seal"]
        assert violations(scratch) == []
        await js.nc.publish("others.subject")
        assert await eventually(lambda: violations(scratch))
    finally:
        await js.close()


async def test_nothing_is_said_to_a_server_without_tls(servers: Servers, scratch: Path) -> None:
    url = servers.nats_url.replace("nats://", "tls://")
    settings = placed(
        scratch, nats_url=url, nats_user="bank", nats_password=SecretStr("in-the-clear")
    )
    assert "does not speak TLS there: see BANK_NATS_URL" in await why_not("nats", settings)


async def test_who_is_refused_in_the_midst_comes_back(
    children: Children, scratch: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known, unknown = (f"authorization {{ user: {name}, password: p }}" for name in ("bank", "x"))
    settings = await told(children, scratch, made, known, user="bank", password=SecretStr("p"))
    (server,) = children._children
    (config,) = list(scratch.glob("nats-*/nats.conf"))  # noqa: ASYNC240
    text = config.read_text()
    js = await JetStream.connect(settings.nats, "test")
    try:
        config.write_text(text.replace(known, unknown))
        server.kill(signal.SIGHUP)
        assert await eventually(lambda: "NATS refuses our credentials" in caplog.text)
        assert caplog.text.count("NATS refuses our credentials") == 1
        config.write_text(text)
        server.kill(signal.SIGHUP)
        assert await eventually(lambda: js.nc.is_connected)
        await js.ping()
    finally:
        await js.close()
