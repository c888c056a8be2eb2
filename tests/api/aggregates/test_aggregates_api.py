"""Commands to any application's aggregates over HTTP."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from aiohttp import ClientResponse
from openapi_spec_validator import validate
from pydantic import Field

from api.aggregates import refusals
from api.aggregates.app import create_app
from api.aggregates.bodies import CommandBodies
from api.http.problems import Problem
from pipeline.application import Application
from pipeline.cli.up import _command_to_try
from pipeline.embedded.up import roles_of
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.aggregate import Aggregate, Joint, Refused
from pipeline.model.claims import claim_id
from pipeline.model.events import new_event
from pipeline.operations import keys
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings, SettingsError
from tests.api.aggregates.orders import (
    BELL,
    SHOP,
    Announce,
    Bell,
    NotReady,
    Order,
    Place,
    announce,
)
from tests.conftest import beside, placed
from tests.harness import eventually
from tests.keys import bearing, guarded, on
from tests.services import NOBODY, Client, is_ready, serving

HERE = "tests.api.aggregates.orders"


@pytest.fixture
def shop(settings: Settings) -> Settings:
    return beside(settings, f"{HERE}:SHOP", "lines")


@pytest.fixture
async def client(shop: Settings) -> AsyncIterator[Client]:
    async with serving(create_app(shop)) as client:
        yield client


def bodies_of(aggregate: Aggregate[Any, Any]) -> CommandBodies:
    return CommandBodies(aggregate.name, aggregate.commands)


async def refused(answer: ClientResponse, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = await answer.json(content_type="application/problem+json")
    assert (answer.status, document["type"]) == (status, f"/problems/{name}"), document
    assert answer.headers["X-Correlation-ID"]
    return document


async def placed_order(client: Client, **body: Any) -> tuple[str, dict[str, Any]]:
    async with client.post("/aggregates/order", json={"command": "Place", **body}) as answer:
        assert answer.status == 201, await answer.text()
        document = await answer.json()
        assert answer.headers["Location"] == f"/aggregates/order/{document['id']}"
        assert answer.headers["ETag"] == f'"{document["version"]}"'
        return document["id"], document


async def test_an_aggregate_is_made_commanded_and_read(client: Client, shop: Settings) -> None:
    order, made = await placed_order(
        client, item="tea", pieces=2, tags=["a", "b"], sizes=[1], note=None, copy="yes"
    )
    state = {"lines": 2, "words": ["tea", "a", "b", "1"] * 2}
    assert made == {"id": order, "version": 2, "state": state}
    path = f"/aggregates/order/{order}"
    headers = {"X-Correlation-ID": "tea time"}
    async with client.post(path, json={"command": "Place", "item": "jam"}, headers=headers) as more:
        assert (more.status, more.headers["ETag"]) == (200, '"3"')
        assert "Location" not in more.headers
        after = await more.json()
    assert after["state"]["words"][-1] == "jam"
    async with client.get(path) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"3"')
        assert await answer.json() == after
    store = EventStore(shop.mongodb, shop.mongodb_database)
    events = await store.load(order)
    assert [event["version"] for event in events] == [1, 2, 3]
    assert events[-1]["correlation_id"] == "tea time"
    await store.close()


async def test_one_that_is_not_there(client: Client) -> None:
    problem = await refused(
        await client.get(f"/aggregates/order/{NOBODY}"), 404, "aggregate-not-found"
    )
    assert problem["aggregate"] == NOBODY
    for path in (f"/aggregates/cart/{NOBODY}", "/aggregates", "/aggregates/order/a.b"):
        await refused(await client.get(path), 404, "not-found")
    await refused(await client.post("/aggregates/silent", json={}), 404, "not-found")


async def test_an_id_of_another_aggregate(client: Client, shop: Settings) -> None:
    order, _ = await placed_order(client, item="tea")
    silent = f"/aggregates/silent/{order}"
    await refused(await client.get(silent), 404, "aggregate-not-found")
    ring = {"command": "Ring"}
    answer = await client.post(f"/aggregates/bell/{order}", json=ring)
    problem = await refused(answer, 409, "of-another-aggregate")
    assert problem["aggregate"] == order
    # An event of a kind that no aggregate has is an error: this service may be of an old release.
    store = EventStore(shop.mongodb, shop.mongodb_database)
    await store.setup()
    await store.append(new_event("strange", 1, "StrangeHappened", {}))
    await store.close()
    await refused(await client.get("/aggregates/bell/strange"), 503, "aggregate-unreadable")
    answer = await client.post("/aggregates/bell/strange", json=ring)
    await refused(answer, 503, "aggregate-unreadable")


async def test_an_id_may_be_the_client_s_own(client: Client) -> None:
    body = {"command": "Place", "item": "tea"}
    async with client.post("/aggregates/order/order_1-A", json=body) as answer:
        assert (await answer.json())["id"] == "order_1-A"
    # A teller would have the key of a claim for ever: it can be guessed, and so can the id.
    answer = await client.post(f"/aggregates/order/{claim_id('tax-number/1')}", json=body)
    assert (await refused(answer, 400, "invalid-input"))["errors"] == [
        {"parameter": "id", "detail": "Only claims have such an id"}
    ]


async def test_a_joint_command_is_whole_and_names_whose_rule_it_broke(client: Client) -> None:
    order, _ = await placed_order(client, item="tea")
    bell, joint = f"bell-{order}", "/joints/announcing"
    body = {"command": "Announce", "order": order, "bell": bell, "slip": f"1 {order}"}
    for replayed in (None, "true"):
        async with client.post(joint, json=body, headers={"Idempotency-Key": order}) as answer:
            assert (answer.status, answer.headers["ETag"]) == (200, '"2"'), await answer.text()
            assert (await answer.json())["state"]["words"] == ["tea", "announced"]
            assert answer.headers.get("Idempotent-Replayed") == replayed
    other = {**body, "slip": f"2 {order}"}
    answer = await client.post(joint, json=other, headers={"Idempotency-Key": order})
    await refused(answer, 422, "idempotency-key-reused")
    answer = await client.post(joint, json=other, headers={"If-Match": '"1"'})
    assert (await refused(answer, 412, "version-mismatch"))["aggregate"] == order
    problem = await refused(await client.post(joint, json=body), 409, "key-claimed")
    assert problem["aggregate"].startswith("claim-")
    async with client.post(joint, json=other) as answer:
        assert answer.status == 200
    answer = await client.post(joint, json={**body, "slip": f"3 {order}"})
    assert (await refused(answer, 409, "too-loud"))["aggregate"] == bell
    async with client.get(f"/aggregates/bell/{bell}") as answer:
        assert (await answer.json())["state"] == {"rings": 2}
    problem = await refused(
        await client.post(joint, json={**other, "bell": order}), 400, "same-aggregate"
    )
    assert problem["aggregate"] == order
    other_bell, _ = await placed_order(client, item="jam")
    answer = await client.post(joint, json={**other, "bell": other_bell})
    assert (await refused(answer, 409, "of-another-aggregate"))["aggregate"] == other_bell
    wrong: list[tuple[str, Any]] = [("bell", "a.b"), ("order", claim_id("slip/1")), ("slip", 1)]
    for name, value in [*wrong, ("ids", [])]:
        await refused(await client.post(joint, json={**body, name: value}), 400, "invalid-input")


async def test_a_state_that_can_t_be_told_fails_no_command(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Bell) -> Any:
        raise AttributeError("broken")

    monkeypatch.setattr(BELL, "to_json", broken)
    for _ in range(2):
        async with client.post("/aggregates/bell", json={"command": "Ring"}) as answer:
            made = await answer.json()
            assert (answer.status, made["version"], made["state"]) == (201, 1, None)
    assert caplog.text.count("can't be shown") == 1


def test_a_joint_command_by_http_says_of_what() -> None:
    with pytest.raises(ValueError, match="'loan' takes commands: give it ids"):
        Joint("loan", [BELL], announce, commands=[Announce])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/command"),
        ([], "#/command"),
        ({"command": 1}, "#/command"),
        ({"command": "Order"}, "#/command"),
        ({"command": "Place"}, "#/item"),
        ({"command": "Place", "item": 1}, "#/item"),
        ({"command": "Place", "item": " "}, "#/item"),
        ({"command": "Place", "item": "a\x1b"}, "#/item"),
        ({"command": "Place", "item": "a" * 1001}, "#/item"),
        ({"command": "Place", "item": "a", "pieces": 2**53}, "#/pieces"),
        ({"command": "Place", "item": "a", "pieces": -(2**53)}, "#/pieces"),
        ({"command": "Place", "item": "a", "pieces": 1.0}, "#/pieces"),
        ({"command": "Place", "item": "a", "pieces": "1"}, "#/pieces"),
        ({"command": "Place", "item": "a", "pieces": True}, "#/pieces"),
        ({"command": "Place", "item": "a", "pieces": None}, "#/pieces"),
        ({"command": "Place", "item": "a", "express": 1}, "#/express"),
        ({"command": "Place", "item": "a", "tags": "b"}, "#/tags"),
        ({"command": "Place", "item": "a", "tags": ["b", 1]}, "#/tags/1"),
        ({"command": "Place", "item": "a", "sizes": [1, "2"]}, "#/sizes/1"),
        ({"command": "Place", "item": "a", "copy": "maybe"}, "#/copy"),
        ({"command": "Place", "item": "a", "weight": -1}, "#/weight"),
        ({"command": "Place", "item": "a", "of_item": "b"}, "#/of_item"),
        ({"command": "Place", "item": "a", "express": True}, "#"),
        ({"command": "Wait", "why": "b"}, "#/why"),
    ],
)
def test_a_body_that_is_no_command(body: Any, pointer: str) -> None:
    bodies = bodies_of(SHOP.aggregates[0])
    with pytest.raises(Exception) as problem:  # noqa: PT011
        bodies.command(bodies.validated(body))
    found: Any = problem.value
    assert (found.status, found.name) == (400, "invalid-input")
    assert pointer in [each["pointer"] for each in found.members["errors"]]


def test_a_body_becomes_the_command() -> None:
    bodies = bodies_of(SHOP.aggregates[0])
    body = {"command": "Place", "item": "Cafe\u0301", "sizes": [1, 2], "note": "x"}
    expected = Place("Café", sizes=(1, 2), note="x")
    assert bodies.command(bodies.validated(body)) == expected
    assert bodies.command(bodies.validated({**body, "note": None})) == replace(expected, note=None)


async def test_bad_bodies_and_headers_are_problems(client: Client, shop: Settings) -> None:
    body = {"command": "Place", "item": "tea"}
    for data, kind, status, name in (
        (b"{", "application/json", 400, "invalid-json"),
        (b'{"command": "Wait", "command": "Wait"}', "application/json", 400, "invalid-json"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b"{}", "application/json", 400, "invalid-input"),
    ):
        answer = await client.post("/aggregates/order", data=data, headers={"Content-Type": kind})
        await refused(answer, status, name)
    for header, name in (("Idempotency-Key", "idempotency-key"), ("If-Match", "if-match")):
        answer = await client.post("/aggregates/order", json=body, headers={header: ""})
        await refused(answer, 400, f"invalid-{name}")


async def test_a_refusal_is_a_problem_of_its_class(client: Client) -> None:
    order, _ = await placed_order(client, item="tea")
    path = f"/aggregates/order/{order}"
    sold_out = await client.post(path, json={"command": "Place", "item": "gold"})
    problem = await refused(sold_out, 409, "sold-out")
    assert (problem["title"], problem["detail"]) == ("Sold out", "There is nothing left.")
    assert (problem["aggregate"], problem["instance"]) == (order, path)
    # The services have a type of that name.
    not_ready = await client.post(path, json={"command": "Cancel", "why": "too late"})
    assert (await refused(not_ready, 422, "refused-not-ready"))["detail"] == "too late"
    not_ready = await client.post(path, json={"command": "Cancel"})
    assert (await refused(not_ready, 422, "refused-not-ready"))["detail"] == "Refused not ready."
    for name, meaning in (
        ("sold-out", "There is nothing left."),
        ("not-ready", ""),
        ("key-claimed", "Somebody has the key already."),
    ):
        async with client.get(f"/problems/{name}") as answer:
            shown = await answer.json()
        assert meaning in shown["meaning"]
    assert issubclass(NotReady, Refused)
    async with client.get("/metrics") as answer:
        figures = await answer.text()
    assert 'shop_commands_total{kind="Place",outcome="sold-out"} 1.0' in figures
    assert 'shop_commands_total{kind="Place",outcome="accepted"} 1.0' in figures
    assert 'route="/aggregates/order/{id}"' in figures


def refusal(module: str, about: str, **more: int) -> type[Refused]:
    # By their module other tests in this process take them for the engine's own.
    more_of_it = {"__module__": f"pipeline.{module}", "__doc__": about, **more}
    return type("LateOrder", (Refused,), more_of_it)


def test_two_refusals_of_one_name_are_told_at_the_start(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = refusal("one", "Too late.")
    for other, same in (
        (refusal("two", "Too late."), True),
        (refusal("two", "Not today."), False),
        (refusal("two", "Too late.", status=422), False),
    ):
        both = [late, other]
        monkeypatch.setattr(refusals, "_below", lambda _, both=both: both)
        if same:
            assert "late-order" in [each.name for each in refusals.refusal_types()]
            continue
        why = "pipeline.one.LateOrder and pipeline.two.LateOrder can't both be late-order"
        with pytest.raises(SettingsError, match=f"BANK_APPLICATION: {why}"):
            create_app(shop)


async def test_a_key_is_of_one_command(client: Client) -> None:
    body, key = {"command": "Place", "item": "tea"}, {"Idempotency-Key": "k1"}
    async with client.post("/aggregates/order", json=body, headers=key) as answer:
        first, etag = await answer.json(), answer.headers["ETag"]
        assert "Idempotent-Replayed" not in answer.headers
    path = f"/aggregates/order/{first['id']}"
    await client.post(path, json=body)
    async with client.post("/aggregates/order", json=body, headers=key) as answer:
        assert (answer.status, await answer.json()) == (201, first)
        assert (answer.headers["ETag"], answer.headers["Idempotent-Replayed"]) == (etag, "true")
        assert answer.headers["Location"] == path
    for other in ({**body, "item": "jam"}, {"command": "Cancel"}, {"command": "Wait"}):
        answer = await client.post("/aggregates/order", json=other, headers=key)
        await refused(answer, 422, "idempotency-key-reused")
    await refused(await client.post(path, json=body, headers=key), 422, "idempotency-key-reused")


async def test_a_condition_on_the_version(client: Client) -> None:
    order, _ = await placed_order(client, item="tea")
    path, body = f"/aggregates/order/{order}", {"command": "Place", "item": "jam"}
    answer = await client.post(path, json=body, headers={"If-Match": '"7"'})
    problem = await refused(answer, 412, "version-mismatch")
    assert (problem["version"], problem["aggregate"]) == (1, order)
    assert answer.headers["ETag"] == '"1"'
    async with client.post(path, json=body, headers={"If-Match": '"1"'}) as answer:
        assert (await answer.json())["version"] == 2
    answer = await client.post("/aggregates/order", json=body, headers={"If-Match": "*"})
    await refused(answer, 412, "version-mismatch")


async def test_a_command_with_nothing_to_do(client: Client) -> None:
    order, made = await placed_order(client, item="tea")
    async with client.post(f"/aggregates/order/{order}", json={"command": "Wait"}) as answer:
        assert (answer.status, await answer.json()) == (200, made)
    async with client.post("/aggregates/order", json={"command": "Wait"}) as answer:
        assert (answer.status, (await answer.json())["version"]) == (200, 0)
        assert "Location" not in answer.headers


async def test_the_description_has_every_command(scratch: Path) -> None:
    settings = placed(scratch, application=f"{HERE}:SHOP", projections="lines")
    async with serving(create_app(settings), ready=False) as client:
        async with client.get("/openapi.json") as answer:
            document = await answer.json()
        async with client.get("/docs") as answer:
            assert "OrderPlace" in await answer.text()
        async with client.get("/problems/sold-out") as answer:
            routes = {each["path"] for each in (await answer.json())["routes"]}
    validate(document)
    of_bell = {"/aggregates/bell", "/aggregates/bell/{id}"}
    joint = "/joints/announcing"
    assert routes == {"/aggregates/order", "/aggregates/order/{id}", joint, *of_bell}
    paths = {path for path in document["paths"] if "aggregates" in path or "joints" in path}
    assert paths == {*routes, "/aggregates/silent/{id}"}
    announce = document["components"]["schemas"]["JointAnnouncingAnnounce"]
    assert announce["required"] == ["command", "order", "bell", "slip"]
    assert "same-aggregate" in str(document["paths"][joint]["post"]["responses"]["400"])
    place = document["components"]["schemas"]["OrderPlace"]
    assert place["required"] == ["command", "item"]
    assert place["description"] == "Order something."
    assert place["properties"]["item"]["maxLength"] == 1000
    assert not place["additionalProperties"]
    assert {"409", "412", "422", "503"} <= set(
        document["paths"]["/aggregates/order"]["post"]["responses"]
    )


@dataclass(frozen=True)
class Weigh:
    grams: float


@dataclass(frozen=True)
class Command:
    command: str


@dataclass(frozen=True)
class Pack:
    boxes: int
    label: Annotated[str, Field(max_length=5000)] = ""
    packed: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.boxes > 9:
            raise TypeError("so many boxes")


@dataclass(frozen=True)
class Send:
    by: Literal["road", "rail"]


def taking(command: type[Any]) -> Aggregate[Any, Order]:
    order = SHOP.aggregates[0]
    return Aggregate(
        "order",
        initial=Order,
        decide=order.decide,
        evolve=order.evolve,
        kinds=["LineAdded"],
        commands=[command],
    )


def test_a_text_has_the_greatest_length_of_its_type() -> None:
    bodies = bodies_of(taking(Pack))
    body = {"command": "Pack", "boxes": 1, "label": "a" * 5000}
    assert bodies.command(bodies.validated(body)) == Pack(1, "a" * 5000)
    with pytest.raises(Problem, match="label"):
        bodies.validated({**body, "label": "a" * 5001})
    with pytest.raises(Problem, match="label"):
        bodies.validated({**body, "label": "a\x1b"})


def test_what_the_class_takes_for_a_wrong_type_is_invalid() -> None:
    bodies = bodies_of(taking(Pack))
    given = bodies.validated({"command": "Pack", "boxes": 10})
    with pytest.raises(Problem, match="so many boxes"):
        bodies.command(given)


@pytest.mark.parametrize(
    ("command", "why"),
    [(Weigh, "Weigh.grams: HTTP takes str, int"), (Command, "Command.command: a body has")],
)
def test_a_field_that_http_can_t_take_is_told_at_the_start(command: type[Any], why: str) -> None:
    with pytest.raises(TypeError, match=re.escape(why)):
        bodies_of(taking(command))


async def test_who_may_do_what(shop: Settings) -> None:
    js = await JetStream.connect(shop.nats, "test")
    sent: dict[Role, dict[str, str]] = {}
    for role in Role:
        key, token = keys.new(role, accounts=[NOBODY] if role is Role.CUSTOMER else [])
        await keys.bucket(js).put(key.id, keys.value(key))
        sent[role] = bearing(token)
    await js.close()
    body = {"command": "Place", "item": "tea"}
    async with guarded(create_app(on(shop))) as http:
        await eventually(lambda: is_ready(http))
        await refused(await http.get(f"/aggregates/order/{NOBODY}"), 401, "key-required")
        for role, headers in sent.items():
            made = await http.post("/aggregates/order/tea", json=body, headers=headers)
            assert made.status == (200 if role is Role.TELLER else 403), role
        for role, headers in sent.items():
            read = await http.get("/aggregates/order/tea", headers=headers)
            assert read.status == (403 if role is Role.CUSTOMER else 200), role
    store = EventStore(shop.mongodb, shop.mongodb_database)
    (event,) = await store.load("tea")
    assert event["actor"]["role"] == "teller"
    await store.close()


async def test_an_application_without_aggregates_has_no_such_service(settings: Settings) -> None:
    empty = beside(settings, f"{HERE}:EMPTY", "lines")
    with pytest.raises(SettingsError, match="empty has no aggregate to command"):
        create_app(empty)
    assert "accounts" not in roles_of(empty)
    assert "accounts" in roles_of(beside(settings, f"{HERE}:SHOP", "lines"))
    assert _command_to_try(empty.chosen, "localhost:8000") == ""


def test_bank_up_says_how_to_send_a_command() -> None:
    shown = _command_to_try(SHOP, "localhost:8000")
    assert "curl localhost:8000/aggregates/order -H" in shown
    assert """-d '{"command": "Place", "item": "…"}'""" in shown
    pack = Application("shop", aggregates=[taking(Pack)])
    assert """-d '{"command": "Pack", "boxes": 1}'""" in _command_to_try(pack, "localhost:8000")


def test_bank_up_shows_no_command_that_it_has_no_values_for() -> None:
    send = Application("shop", aggregates=[taking(Send)])
    assert _command_to_try(send, "localhost:8000") == ""
