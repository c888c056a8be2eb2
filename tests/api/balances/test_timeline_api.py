"""`GET /timeline`, `/audit` and `/settings`: what happened, who did what, and what is set."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from api.balances.app import create_app
from api.balances.timeline import Timeline
from pipeline.banking.balance import BALANCE
from pipeline.messaging import JetStream
from pipeline.operations import audit
from pipeline.operations.keys import Role
from pipeline.support.logs import moment
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList
from tests.harness import eventually
from tests.keys import guarded, holder, on
from tests.operations.test_happenings import SERVER, reading
from tests.services import Client, problem, serving


async def read(client: Client, path: str, **options: Any) -> dict[str, Any]:
    async with client.get(path, **options) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_what_happens_is_seen_although_nobody_watches(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.balances.overview.STEP", 0.2)
    async with serving(create_app(settings), ready=False) as client:

        async def began() -> str:
            return str((await read(client, "/timeline"))["since"] or "")

        since = await eventually(began)
        await ParkedAccountList(js, BALANCE).park(
            "somebody", version=2, event_id="x", kind="y", reason="sick"
        )

        async def parked() -> dict[str, Any]:
            [found] = [
                each
                for each in (await read(client, "/timeline"))["data"]
                if each["kind"] == "parked"
            ]
            return dict(found)

        found = await eventually(parked)
    assert found["what"] == "1 account is parked in balance; 0 before."
    assert (found["tone"], found["about"]) == ("warn", "balance")
    assert datetime.fromisoformat(found["at"]) > datetime.fromisoformat(since)


async def test_what_happened_is_known_to_services_beside_and_after_the_one_that_saw_it(
    settings: Settings, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.balances.overview.STEP", 0.2)

    async def lines(client: Client) -> list[dict[str, Any]]:
        found = await read(client, "/timeline")
        return [each for each in found["data"] if found["since"] and each["kind"] == "parked"]

    async with (
        serving(create_app(settings), ready=False) as one,
        serving(create_app(settings), ready=False) as other,
    ):
        for client in (one, other):
            await eventually(lambda c=client: _since(c))  # type: ignore[misc]
        await ParkedAccountList(js, BALANCE).park(
            "somebody", version=2, event_id="x", kind="y", reason="sick"
        )

        async def both() -> list[dict[str, Any]]:
            found = await lines(one)
            return found if found and await lines(other) == found else []

        async def stored() -> int:
            return (await js.counted("happenings", "happenings.parked") or (None, 0))[1]

        await eventually(stored)
        [found] = await eventually(both)
        assert found["accounts"] == ["somebody"]
        assert await stored() == 1
    async with serving(create_app(settings), ready=False) as after:
        assert await eventually(lambda: lines(after)) == [found]
        assert found["at"] < await _since(after)


async def test_each_change_is_stored_once_however_many_race_for_it(js: JetStream) -> None:
    services = [Timeline(partial(_connected, js)) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for each in services:
            await stack.enter_async_context(each.kept())
            each.note(at(0))
        for second in range(1, 21):
            away = {"servers": [{**SERVER, "up": False}]} if second % 2 else {}
            for each in services:
                each.note(at(second, **away))
            await eventually(partial(_settled, js, services))
            assert await _stored(js, second)
    assert all(each.all() == services[0].all() for each in services)


async def test_what_others_told_is_known_when_nats_comes_late_and_nothing_can_be_written(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(*_: object) -> int:
        raise TimeoutError

    here = asyncio.Event()
    before, after = Timeline(partial(_connected, js)), Timeline(partial(_connected, js, here))
    async with before.kept():
        before.note(at(0))
        before.note(at(1, servers=[{**SERVER, "up": False}]))
        await eventually(partial(_stored, js, 1))
    async with after.kept():
        after.note(at(9))
        assert after.all() == {"since": at(9)["at"], "data": []}
        with monkeypatch.context() as patched:
            patched.setattr("pipeline.operations.timeline.write", denied)
            here.set()
            await eventually(partial(_told, after, 2))
        await eventually(partial(_stored, js, 2))
    assert [(each.what, each.seconds) for each in after.all()["data"]] == [
        *(("NATS answers again.", 8.0), ("NATS is down.", None))
    ]


BEGIN = time.time() - 86_400


def at(second: int, **changes: Any) -> dict[str, Any]:
    return {**reading(0, **changes), "at": moment(BEGIN + second)}


async def _connected(js: JetStream, when: asyncio.Event | None = None) -> JetStream:
    if when is not None:
        await when.wait()
    return js


async def _told(service: Timeline, count: int) -> bool:
    return len(service.all()["data"]) == count


async def _settled(js: JetStream, services: list[Timeline]) -> bool:
    """Whether each has read all that is stored, and has nothing to store."""
    state = await js.state("happenings")
    last = state.last if state is not None else 0
    return all(each._last == last and not each._local.waiting for each in services)


async def _stored(js: JetStream, count: int) -> bool:
    state = await js.state("happenings")
    return state is not None and state.last == count


async def _since(client: Client) -> str:
    return str((await read(client, "/timeline"))["since"] or "")


async def test_operators_alone_see_the_audit_log_and_the_settings(
    settings: Settings, js: JetStream
) -> None:
    await audit.ensure(js, settings)
    for number in range(3):
        await audit.record(js, settings, "repair", f"account {number}")
    operator, viewer = await holder(settings, Role.OPERATOR), await holder(settings, Role.VIEWER)
    async with guarded(create_app(on(settings))) as client:
        for path in ("/audit", "/settings"):
            await problem(await client.get(path, headers=viewer), 403, "not-allowed")
        lines = (await read(client, "/audit?limit=1000", headers=operator))["data"]
        assert [each["target"] for each in lines if each["action"] == "repair"] == [
            *("account 2", "account 1", "account 0")
        ]
        last = (await read(client, "/audit?limit=1&action=repair", headers=operator))["data"]
        assert [each["target"] for each in last] == ["account 2"]
    async with serving(create_app(settings), ready=False) as client:
        shown = {each["name"]: each for each in (await read(client, "/settings"))["data"]}
        assert shown["BANK_LEASE_SECONDS"]["value"] == str(settings.lease_seconds)
        assert shown["BANK_LEASE_SECONDS"]["meaning"]
        await problem(await client.get("/audit?limit=1001"), 400, "invalid-input")


async def test_a_flood_of_refused_keys_hides_nothing_else(
    settings: Settings, js: JetStream
) -> None:
    await audit.ensure(js, settings)
    for number in range(5):
        await audit.record(js, settings, "repair", f"account {number}")
        for flood in range(7):
            await audit.record(js, settings, "key-refused", f"{number}-{flood}")
    async with serving(create_app(settings), ready=False) as client:

        async def targets(path: str) -> list[str]:
            return [each["target"] for each in (await read(client, path))["data"]]

        assert await targets("/audit?limit=2") == ["4-6", "4-5", "account 4", "account 3"]
        assert await targets("/audit?limit=1&action=repair") == ["account 4"]
        assert len(await targets("/audit")) == 40
        assert (await targets("/audit?action=key-refused&limit=35"))[-1] == "0-0"
        assert await targets("/audit?action=seal") == []
        await problem(await client.get("/audit?action=x"), 400, "invalid-input")


async def test_no_secret_is_among_the_settings(settings: Settings) -> None:
    url = settings.redis_url.replace("redis://", "redis://:hush-hush@")
    told = Settings.model_validate({**settings.model_dump(), "redis_url": url})
    async with serving(create_app(told), ready=False) as client:
        shown = {each["name"]: each for each in (await read(client, "/settings"))["data"]}
    assert "hush-hush" not in str(shown)
    assert shown["BANK_REDIS_URL"]["value"]
