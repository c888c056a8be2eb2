"""The audit log: who did what is written by services and commands, and read by `bank audit`."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import ClientError, web
from click.testing import CliRunner, Result

from api.accounts.app import create_app as accounts_app
from api.balances.app import create_app as balances_app
from api.http.problems import Problem, unavailable
from api.security import audit as trail
from api.security.audited import audited
from api.server import application
from pipeline.cli.main import main
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.operations import audit, keys
from pipeline.operations.audit import AuditLine
from pipeline.operations.keys import Role as KeyRole
from pipeline.support.metrics import Metrics
from pipeline.support.settings import PREFIX, Settings, environment
from tests.harness import Role, eventually
from tests.keys import bearing, guarded, holder, kept, on
from tests.services import NOBODY, serving


def bank(settings: Settings, *words: str) -> Result:
    """Run `bank` in this process, outside of any loop."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(PREFIX)}
    return CliRunner().invoke(main, [*words], env={**clean, **environment(settings)})


async def lines(settings: Settings, *actions: str) -> list[AuditLine]:
    """The lines there are, of these actions or all."""
    js = await JetStream.connect(settings.nats_url, "test")
    try:
        return [
            line async for _, line in audit.read(js) if not actions or line["action"] in actions
        ]
    finally:
        await js.close()


@asynccontextmanager
async def nats(settings: Settings) -> AsyncIterator[JetStream]:
    js = await JetStream.connect(settings.nats_url, "test")
    yield js
    await js.close()


async def test_refused_keys_are_told_with_what_they_claimed(settings: Settings) -> None:
    settings = on(settings)
    viewer, token = keys.new(KeyRole.VIEWER)
    await kept(settings, viewer)
    async with guarded(accounts_app(settings)) as http:
        wrong = token[:-5] + "AAAAA"
        for headers, status in (
            ({}, 401),
            (bearing("nonsense"), 401),
            (bearing(wrong), 401),
            ({**bearing(token), "X-Correlation-ID": "mine"}, 403),
        ):
            async with http.post("/deposit", json={}, headers=headers) as answer:
                assert answer.status == status
        async with http.get("/nowhere") as answer:
            assert answer.status == 404
        text = ""
        async with http.get("/metrics", headers=bearing(token)) as answer:
            text = await answer.text()
        assert 'bank_http_refused_total{status="403"} 1.0' in text
        assert "bank_audit_lost_lines_total 0.0" in text
    told = [each for each in await lines(settings, "key-refused") if "deposit" in each["target"]]
    assert [(each["actor"], each["outcome"], each["target"]) for each in told] == [
        ({"role": "unverified"}, "key-required", "POST /deposit"),
        ({"role": "unverified"}, "key-invalid", "POST /deposit"),
        ({"role": "unverified", "key": viewer.id}, "key-invalid", "POST /deposit"),
        ({"role": "viewer", "key": viewer.id}, "not-allowed", "POST /deposit"),
    ]
    assert told[-1]["correlation_id"] == "mine"
    assert all(each["service"] == "accounts" for each in told)
    whole = json.dumps(await lines(settings))
    assert token.split("_", 2)[2] not in whole
    assert "nonsense" not in whole


async def test_a_flood_of_refused_keys_has_few_lines_and_all_are_counted(
    settings: Settings,
) -> None:
    settings = on(settings)
    async with guarded(accounts_app(settings)) as http:
        for _ in range(60):
            async with http.post("/deposit", json={}) as answer:
                assert answer.status == 401

        async def told() -> bool:
            async with http.post("/deposit", json={}) as answer:
                assert answer.status == 401
            found = await lines(settings, "key-refused")
            return sum(each.get("omitted", 0) for each in found) >= 40

        await eventually(told, message="those without a line are counted")
        assert len(await lines(settings, "key-refused")) < 40


async def test_the_first_use_of_a_day_is_told_once_by_all_services(settings: Settings) -> None:
    settings = on(settings)
    headers = await holder(settings, KeyRole.OPERATOR)
    key_id = headers["Authorization"].split("_")[1]
    async with guarded(accounts_app(settings)) as one, guarded(balances_app(settings)) as two:
        for http in (one, two, one, two):
            async with http.get(f"/{NOBODY}", headers=headers) as answer:
                assert answer.status in (404, 503)
        today = datetime.now(UTC).date().isoformat()
        async with nats(settings) as js:

            async def used() -> bool:
                return (await keys.last_uses(js)).get(key_id) == today

            await eventually(used, message="the use is kept")
            assert not await keys.use(js, key_id, today)
            assert not await keys.use(js, key_id, "2001-01-01")
            assert await keys.use(js, key_id, "2999-01-01")
    [line] = await lines(settings, "key-used")
    assert line["actor"] == {"key": key_id, "role": "operator"}


@pytest.mark.parametrize("day", [{"$": 1}, "zzz", "２０２６-01-31", [], None, True, 10**9])
async def test_what_is_no_day_stops_no_noting(settings: Settings, day: object) -> None:
    async with nats(settings) as js:
        await Bucket(js, keys.USES).put("0123456789abcdef", {"day": day})
        assert await keys.last_uses(js) == {}
        assert await keys.use(js, "0123456789abcdef", "2026-01-31")
        assert not await keys.use(js, "0123456789abcdef", "2026-01-31")
        assert await keys.last_uses(js) == {"0123456789abcdef": "2026-01-31"}


def test_the_list_shows_the_last_use_of_each_key(settings: Settings) -> None:
    async def used() -> str:
        headers = await holder(settings, KeyRole.OPERATOR)
        await holder(settings, KeyRole.VIEWER)
        async with nats(settings) as js:
            key_id = headers["Authorization"].split("_")[1]
            await keys.use(js, key_id, "2026-01-31")
            return key_id

    key_id = asyncio.run(used())
    listed = json.loads(bank(settings, "keys", "list", "--json").stdout)
    assert {each["id"]: each["last_used"] for each in listed}[key_id] == "2026-01-31"
    assert None in [each["last_used"] for each in listed]
    assert "2026-01-31" in bank(settings, "keys", "list").stdout
    assert "never" in bank(settings, "keys", "list").stdout


async def test_operators_are_told_with_what_they_did_over_http(settings: Settings) -> None:
    settings = on(settings)
    headers = await holder(settings, KeyRole.OPERATOR)
    key_id = headers["Authorization"].split("_")[1]
    actor = {"key": key_id, "role": "operator"}
    async with guarded(balances_app(settings)) as http:
        async with http.post("/balance/rebuild", headers=headers) as answer:
            assert answer.status == 202
            job = (await answer.json())["id"]
        async with http.get("/balance/rebuild", headers=headers) as answer:
            assert answer.status == 202
        async with http.post("/nothing/rebuild", headers=headers) as answer:
            assert answer.status == 404
        async with http.delete(f"/rebuilds/{job}", headers=headers) as answer:
            assert answer.status == 202
        async with http.post(f"/parked/{NOBODY}/retry", headers=headers) as answer:
            assert answer.status == 404
        async with http.delete(f"/parked/{NOBODY}", headers=headers) as answer:
            assert answer.status == 404
    found = [each for each in await lines(settings) if each["action"] != "key-used"]
    found = [each for each in found if each["action"] != "key-refused"]
    assert all(each["actor"] == actor and each["service"] == "balances" for each in found)
    assert [(each["action"], each["target"], each["outcome"]) for each in found] == [
        ("rebuild-started", f"balance {job}", "done"),
        ("rebuild-started", f"balance {job}", "done"),
        ("rebuild-started", "nothing", "projection-not-found"),
        ("rebuild-cancelled", job, "done"),
        ("parked-retry", NOBODY, "not-parked"),
        ("parked-drop", NOBODY, "not-parked"),
    ]


async def test_without_keys_the_actor_is_anonymous(settings: Settings) -> None:
    async with (
        serving(balances_app(settings), ready=False) as http,
        http.post("/balance/rebuild") as answer,
    ):
        assert answer.status == 202
    [line] = await lines(settings)
    assert line["actor"] == {"role": "anonymous"}
    assert datetime.fromisoformat(line["time"]).utcoffset() is not None


async def test_what_failed_is_named_by_what_was_answered(settings: Settings) -> None:
    begun = asyncio.Event()
    handling: list[asyncio.Task[object]] = []

    async def fails(request: web.Request) -> web.Response:
        match request.match_info["how"]:
            case "large":
                raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)
            case "gone":
                raise web.HTTPNotFound
            case "store":
                raise StoreUnavailable("no primary")
            case "waits":
                handling.extend(filter(None, [asyncio.current_task()]))
                begun.set()
                await asyncio.sleep(60)
        raise ValueError("a fault of ours")

    def translate(error: Exception) -> Problem | None:
        away = isinstance(error, StoreUnavailable)
        return unavailable("store-unavailable", "away") if away else None

    route = web.post("/seals/{how}", audited("seal")(fails))
    app = application(settings, [route], {}, translate, Metrics("accounts"))
    async with serving(app) as http:
        for how, status in (("large", 413), ("gone", 404), ("store", 503), ("bug", 500)):
            async with http.post(f"/seals/{how}") as answer:
                assert answer.status == status

        async def asks() -> None:
            with pytest.raises(ClientError):
                await http.post("/seals/waits")

        asking = asyncio.create_task(asks())
        await begun.wait()
        handling[0].cancel()
        await asking
    assert [(each["target"], each["outcome"]) for each in await lines(settings)] == [
        ("large", "body-too-large"),
        ("gone", "not-found"),
        ("store", "store-unavailable"),
        ("bug", "internal-error"),
        ("waits", "cancelled"),
    ]


async def test_who_follows_goes_on_with_a_log_that_was_made_anew(settings: Settings) -> None:
    async def written(js: JetStream, *targets: str) -> None:
        await audit.ensure(js, settings)
        for target in targets:
            line = audit.new_line("seal", audit.ANONYMOUS, service="x", target=target)
            await audit.write(js, line)

    async with nats(settings) as js, Role(settings, "bank", "audit", "--follow") as following:
        await written(js, "one", "two", "three")
        await eventually(lambda: "three" in following.log())
        await js.api("STREAM.DELETE.audit")
        await written(js, "four")
        await eventually(lambda: "four" in following.log(), message="the first of the new one")
        await written(js, "five")
        await eventually(lambda: "five" in following.log())
        assert following.log().count("three") == 1
        assert following.log().count("four") == 1


def test_commands_tell_their_user_and_bank_audit_shows_and_chooses(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "paulo")
    made = [bank(settings, "keys", "create", "--role", "viewer") for _ in range(3)]
    ids = [each.stdout.split("_")[1] for each in made]
    bank(settings, "keys", "revoke", ids[0])
    revoked = bank(settings, "keys", "revoke", "--all")
    assert {line.split(":")[0] for line in revoked.stdout.splitlines()} == {*ids[1:]}
    assert json.loads(bank(settings, "keys", "list", "--json").stdout) == []
    assert bank(settings, "keys", "revoke", "--all").exit_code == 0
    for wrong in ((), (ids[0], "--all")):
        assert bank(settings, "keys", "revoke", *wrong).exit_code == 2
    started = bank(settings, "rebuild", "--no-wait")
    assert started.exit_code == 0
    assert bank(settings, "rebuild", "cancel").exit_code == 0
    shown = bank(settings, "audit", "--json")
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [each["action"] for each in found] == [
        *["key-created"] * 3,
        *["key-revoked"] * 3,
        "rebuild-started",
        "rebuild-cancelled",
    ]
    assert all(each["actor"] == {"role": "cli", "user": "paulo"} for each in found)

    def chosen(*words: str) -> int:
        result = bank(settings, "audit", *words)
        assert result.exit_code == 0, result.output
        return len(result.stdout.splitlines())

    assert chosen() == 8
    assert chosen("--action", "key-revoked", "--action", "rebuild-started") == 4
    assert chosen("--actor", "paulo") == 8
    assert chosen("--actor", "nobody") == 0
    assert chosen("--since", "1h") == 8
    assert chosen("--since", "2099-01-01T00:00:00Z") == 0
    assert bank(settings, "audit", "--since", "soon").exit_code == 2


def test_an_empty_log_and_what_is_no_line(settings: Settings) -> None:
    assert bank(settings, "audit").stdout == ""

    async def written() -> None:
        async with nats(settings) as js:
            await audit.ensure(js, settings)
            for data in (b"", b"[]", b'{"action":"seal"}', b"\xff"):
                await js.publish("audit.seal", data)
            line = audit.new_line("seal", {"role": "cli", "user": "a\x1b[31m"}, service="cli")
            await audit.write(js, line)
            await audit.write(js, line)  # sent twice, because an answer was lost

    asyncio.run(written())
    shown = bank(settings, "audit")
    assert shown.stdout.count("\n") == 1
    assert "a\\x1b[31m" in shown.stdout


async def test_the_limits_are_those_of_the_settings(settings: Settings) -> None:
    async with nats(settings) as js:
        await audit.ensure(js, settings)
        small = settings.model_copy(update={"audit_max_lines": 2, "audit_max_age_days": 1})
        await audit.ensure(js, small)
        config = await js.config("audit")
        assert config is not None
        assert config["max_msgs_per_subject"] == 2
        assert config["max_age"] == 86400 * 10**9
        for action in ("key-refused", "seal"):
            for number in range(1 if action == "seal" else 9):
                await audit.write(
                    js, audit.new_line(action, audit.ANONYMOUS, service="x", target=f"{number}")
                )
    assert [each["target"] for each in await lines(settings)] == ["7", "8", "0"]


async def test_lines_wait_for_nats_and_too_many_are_counted_as_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "MOST", 3)
    away = settings.model_copy(update={"nats_url": "nats://127.0.0.1:1"})
    waiting = trail.AuditTrail(away, "accounts")
    monkeypatch.setattr(trail, "_LEAVE_SECONDS", 0.1)
    async with waiting.kept():
        for number in range(5):
            waiting.note("seal", audit.ANONYMOUS, target=f"{number}")
    figures = {sample.name: sample.value for each in waiting.collect() for sample in each.samples}
    assert figures == {
        "bank_audit_lines_total": 0,
        "bank_audit_lost_lines_total": 2,
        "bank_audit_waiting_lines": 3,
    }
    assert await lines(settings) == []
