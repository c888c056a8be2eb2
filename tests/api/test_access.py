"""Who may use which route of both services: the whole table, with every kind of key, and none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from api.accounts.app import create_app as accounts
from api.balances.app import create_app as balances
from api.security.access import access_of, open_to_all, said
from pipeline.operations import keys
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings
from tests.keys import bearing, guarded, kept, on
from tests.services import NOBODY, Client, problem, serving

ALL: Final = "everybody"
OWN: Final = "01J00000000000000000000000"
"""An account that nobody has opened, but a customer's key is for it."""

SHARED = {
    "GET /livez": ALL,
    "GET /readyz": ALL,
    "GET /metrics": "viewer operator",
    "GET /openapi.json": ALL,
    "GET /docs": ALL,
    "GET /problems": ALL,
    "GET /problems/{name}": ALL,
}
TABLE: dict[str, dict[str, str]] = {
    "accounts": {
        **SHARED,
        "POST /create": "teller",
        "POST /deposit": "teller",
        "POST /withdraw": "teller customer",
        "POST /transfer": "teller customer",
        "POST /reverse": "teller",
        "POST /hold": "teller",
        "POST /capture": "teller",
        "POST /void": "teller",
        "POST /freeze": "teller",
        "POST /unfreeze": "teller",
        "POST /close": "teller",
        "PATCH /{id}": "teller",
        "GET /{id}": "teller viewer operator customer",
        "GET /{id}/events": "teller viewer operator customer",
    },
    "balances": {
        **SHARED,
        "GET /": "teller viewer operator",
        "GET /{id}": "teller viewer operator customer",
        "GET /{id}/statement": "teller viewer operator customer",
        "GET /{id}/history": "teller viewer operator customer",
        "GET /{id}/events": "teller viewer operator customer",
        "GET /projections/owners": "teller viewer operator",
        "GET /projections/owners/{group}": "teller viewer operator",
        "GET /projections/owners/{group}/shares": "teller viewer operator",
        "GET /projections/{name}": "teller viewer operator",
        "GET /projections/{name}/{id}": "teller viewer operator",
        "GET /pipeline": "viewer operator",
        "GET /pipeline/events": "viewer operator",
        "GET /pipeline/hour": "viewer operator",
        "GET /activity": "viewer operator",
        "GET /partitions": "viewer operator",
        "GET /partitions/hour": "viewer operator",
        "GET /parked": "viewer operator",
        "GET /parked/{id}": "viewer operator",
        "POST /parked/{id}/retry": "operator",
        "DELETE /parked/{id}": "operator",
        "GET /rebuilds": "viewer operator",
        "GET /rebuilds/{id}": "viewer operator",
        "GET /rebuilds/{id}/events": "viewer operator",
        "DELETE /rebuilds/{id}": "operator",
        "POST /{projection}/rebuild": "operator",
        "GET /{projection}/rebuild": "operator",
        "GET /events": "teller viewer operator",
        "GET /events/{id}/{version}": "teller viewer operator",
        "GET /subscriptions": "teller viewer operator",
        "GET /subscriptions/{name}": "teller viewer operator",
        "PUT /subscriptions/{name}": "teller viewer operator",
        "DELETE /subscriptions/{name}": "teller viewer operator",
        "GET /traces/{correlation_id}": "teller viewer operator",
        "GET /stages": "teller viewer operator",
        "GET /timeline": "viewer operator",
        "GET /audit": "operator",
        "GET /settings": "operator",
        "GET /schemas": ALL,
        "GET /schemas/{kind}/{version}": ALL,
        "GET /asyncapi.json": ALL,
        "GET /ui": ALL,
        "GET /ui/{file}": ALL,
        "GET /whoami": "teller viewer operator customer",
        "POST /commands/create": "teller",
        "POST /commands/deposit": "teller",
        "POST /commands/withdraw": "teller customer",
        "POST /commands/transfer": "teller customer",
        "POST /commands/hold": "teller",
        "POST /commands/capture": "teller",
        "POST /commands/void": "teller",
    },
}
BODIES = {
    "/commands/withdraw": {"id": OWN, "money": 1},
    "/commands/transfer": {"from": OWN, "to": NOBODY, "money": 1},
    "/withdraw": {"id": OWN, "money": 1},
    "/transfer": {"from": OWN, "to": NOBODY, "money": 1},
    "/subscriptions/{name}": {"position": "0.0.0"},
}
SERVICES = {"accounts": accounts, "balances": balances}
service = pytest.mark.parametrize("service", SERVICES)


def routes(app: web.Application) -> Iterator[tuple[str, str]]:
    for each in app.router.routes():
        assert each.resource is not None
        yield each.method, each.resource.canonical


async def status(client: Client, method: str, path: str, headers: dict[str, str]) -> int:
    """What becomes of a request that does nothing but to be let in."""
    filled = path.replace("{id}", OWN).replace("{version}", "1")
    for variable in ("{projection}", "{name}", "{group}"):
        filled = filled.replace(variable, "none")
    body: Any = BODIES.get(path)
    async with client.request(method, filled, headers=headers, json=body) as answer:
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        return answer.status


@service
async def test_each_role_on_each_route(settings: Settings, service: str) -> None:
    holders = {}
    for role in Role:
        accounts = frozenset({OWN} if role is Role.CUSTOMER else ())
        key, holders[role.value] = keys.new(role, accounts=accounts)
        await kept(settings, key)
    async with guarded(SERVICES[service](on(settings))) as client:
        assert client.app is not None
        seen = set()
        for method, path in routes(client.app):
            name = f"{'GET' if method == 'HEAD' else method} {path}"
            seen.add(name)
            may = TABLE[service][name].split()
            for role_name, token in holders.items():
                got = await status(client, method, path, bearing(token))
                assert got not in (401, 500), (name, role_name, got)
                assert (got != 403) == (role_name in may or may == [ALL]), (name, role_name, got)
        assert seen == TABLE[service].keys()


def changed(token: str) -> str:
    """The key with another secret."""
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@service
async def test_a_key_that_is_none_lets_nobody_in(settings: Settings, service: str) -> None:
    now = datetime.now(UTC)
    good, token = keys.new(Role.OPERATOR)
    expired, old = keys.new(Role.OPERATOR, expires=now - timedelta(seconds=1))
    _, unknown = keys.new(Role.OPERATOR)
    await kept(settings, good, expired)
    bad = {
        "expired": f"Bearer {old}",
        "another bank's, or revoked": f"Bearer {unknown}",
        "another secret": f"Bearer {changed(token)}",
        "a secret that is too long": f"Bearer {token}A",
        "no secret": f"Bearer bank_{good.id}",
        "the hash": f"Bearer bank_{good.id}_{good.digest}",
        "nothing": "Bearer",
        "another scheme": f"Basic {token}",
        "bare": token,
        "not ASCII": f"Bearer {token[:-1]}é",
    }
    async with guarded(SERVICES[service](on(settings))) as client:
        assert client.app is not None
        for method, path in routes(client.app):
            name = f"{'GET' if method == 'HEAD' else method} {path}"
            for what, given in {"none": "", **bad}.items():
                got = await status(client, method, path, {"Authorization": given} if given else {})
                assert (got == 401) == (TABLE[service][name] != ALL), (name, what, got)
        async with client.get("/metrics", headers={"Authorization": f"bEARER  {token}"}) as answer:
            assert answer.status == 200, "the scheme's name has no case"
        await problem(await client.get("/metrics"), 401, "key-required")
        twice = [("Authorization", f"Bearer {token}")] * 2
        await problem(await client.get("/metrics", headers=twice), 400, "invalid-authorization")
        document = await problem(
            await client.get("/metrics", headers=bearing(old)), 401, "key-invalid"
        )
        assert document["detail"] == f"Key {expired.id} has expired."
        document = await problem(
            await client.get("/metrics", headers=bearing(changed(old))), 401, "key-invalid"
        )
        assert "expired" not in document["detail"]


@service
async def test_every_route_says_whom_it_lets_in(settings: Settings, service: str) -> None:
    app = SERVICES[service](settings)
    assert all(said(each.handler) for each in app.router.routes())
    told = {name: access_of_route(app, name) for name in TABLE[service]}
    assert told == {n: frozenset(may.split()) - {ALL} for n, may in TABLE[service].items()}
    async with serving(app, ready=False) as client, client.get("/openapi.json") as answer:
        document = await answer.json()
    for name, may in TABLE[service].items():
        method, path = name.split()
        security = document["paths"][path][method.lower()]["security"]
        assert security == [{"key": [role]} for role in sorted({*may.split()} - {ALL})]
        answers = document["paths"][path][method.lower()]["responses"]
        assert ({"401", "403", "429"} <= answers.keys()) == (may != ALL)


def access_of_route(app: web.Application, name: str) -> frozenset[str]:
    (found,) = (
        each
        for each in app.router.routes()
        if each.resource and f"{each.method} {each.resource.canonical}" == name
    )
    return frozenset(access_of(found.handler).roles or ())


def test_a_route_that_says_nothing_lets_in_operators_alone() -> None:
    async def mute(_: web.Request) -> web.Response:
        return web.Response()

    assert not said(mute)
    assert access_of(mute).roles == frozenset({Role.OPERATOR})
    assert access_of(open_to_all(mute)).roles is None


def test_a_customer_has_accounts_and_nobody_else_has() -> None:
    for role in Role:
        with pytest.raises(ValueError, match="a customer has accounts"):
            keys.new(role, accounts=frozenset(() if role is Role.CUSTOMER else {OWN}))
    with pytest.raises(ValueError, match="match pattern"):
        keys.new(Role.CUSTOMER, accounts=frozenset({"mine"}))


def test_what_is_kept_is_the_key_without_its_secret() -> None:
    key, token = keys.new(Role.CUSTOMER, accounts=frozenset({OWN}), name="Ada", rate=2.5)
    named = keys.parted(token)
    assert named is not None
    assert named[0] == key.id
    assert named[1] not in str(keys.value(key))
    assert Key.model_validate({**keys.value(key), "id": key.id}) == key
    assert key.opened_by(named[1])
    assert not key.opened_by(key.digest)


def shown(service: str) -> Iterator[str]:
    """The table of a service as `docs/security.md` has it."""
    port = {"accounts": 8000, "balances": 8030}[service]
    yield f"| {service.capitalize()}, port {port} | " + " | ".join(Role) + " |"
    yield "| --- |" + " --- |" * len(Role)
    for route, may in TABLE[service].items():
        if may != ALL:
            ticks = ("yes" if role in may.split() else "" for role in Role)
            yield f"| `{route}` | " + " | ".join(ticks) + " |"


@service
def test_the_page_has_the_table(service: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert "\n".join(shown(service)) in page
