"""JSON Schemas of events and the AsyncAPI document: sound, complete, and true of what is made."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from api.balances.asyncapi import StreamContract
from api.balances.event_schemas import EventSchemas
from api.balances.feed import FeedQuery
from pipeline.application import Application
from pipeline.banking.account import ACCOUNT
from pipeline.banking.application import BANK
from pipeline.banking.commands import (
    Capture,
    Close,
    Deposit,
    ExpireHold,
    Freeze,
    Hold,
    Unfreeze,
    UpdateOwner,
    Void,
    Withdraw,
)
from pipeline.banking.events import KINDS
from pipeline.commands import CommandContext
from pipeline.model.aggregate import Aggregate
from pipeline.model.derived import as_stored
from pipeline.model.events import new_event
from pipeline.operations.feed.cloud_events import cloud_event
from pipeline.operations.feed.position import Position
from pipeline.operations.feed.reader import Item
from pipeline.testing import InMemoryEventStore
from tests.accounts import account_service
from tests.bank import as_delivered

KNOWN: Final = EventSchemas(BANK).all
DOCUMENT: Final = StreamContract(BANK, EventSchemas(BANK)).document
HERE: Final = Position("0123456789ab", 7, "ba9876543210")


def validator(schema: Any) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def made(kind: str, body: Any, schema: int = 1) -> dict[str, Any]:
    [event] = as_delivered([new_event("A", 1, kind, body, schema=schema)])
    return dict(event)


async def every_kind() -> list[dict[str, Any]]:
    """Events of the bank's own making, of each kind and with all that one may have: as readers have
    them, and as they are stored."""
    store = InMemoryEventStore()
    service = account_service(store)
    await service.open()

    def context() -> CommandContext:
        return CommandContext(
            f"correlation-{next(numbers)}",
            key=f"key-{next(numbers)}",
            request="fingerprint",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            actor={"key": "0123456789abcdef", "role": "teller"},
            reference="R 7",
            description="rent",
        )

    numbers = iter(range(1000))
    ada = (await service.create("Ada", 0, context())).after.id
    bob = (await service.create("Bob", 9, context())).after.id
    moved = (await service.transfer(bob, ada, 9, context())).events[0]
    await service.reverse(bob, 2, moved["body"]["transfer"]["id"], context())
    now = datetime.now(UTC).replace(tzinfo=None)
    later = now + timedelta(hours=1)
    for command in (
        UpdateOwner("Ada B."),
        Freeze(),
        Unfreeze("by mistake", "sorry"),
        Freeze("a doubt", "please call"),
        Unfreeze(),
        Deposit(10),
        Hold("h1", 4, later, now),
        Capture("h1", 3),
        Hold("h2", 2, later, now),
        Void("h2"),
        Hold("h3", 2, later, now),
        ExpireHold("h3", later),
        Withdraw(7),
        Close("moved", "bye"),
    ):
        await service.execute(ada, command, context())
    await service.commands.forget(ACCOUNT, bob, context())
    found = [*await store.page(ada, after=0, limit=100), *await store.page(bob, after=0, limit=100)]
    return [dict(event) for event in as_delivered([*found, *map(as_stored, found)])]


async def test_all_that_the_bank_makes_is_as_the_documents_say() -> None:
    events, seen = await every_kind(), set()
    for event in events:
        key = (event["kind"], event["schema"])
        seen.add(event["kind"])
        validator(KNOWN[key]).validate(event)
        shown = cloud_event(Item(event, HERE), "bank", "http://localhost:8030/schemas")  # type: ignore[arg-type]
        name = f"{key[0]}.{key[1]}"
        messages = DOCUMENT["components"]["messages"]
        validator(messages[name]["payload"]["schema"]).validate(event)
        validator(messages[f"{name}.cloudevent"]["payload"]["schema"]).validate(shown)
    assert seen == {kind for kind, _ in ACCOUNT.bodies}


def test_each_kind_and_schema_has_one() -> None:
    assert {kind for kind, _ in KNOWN} == KINDS
    assert {("AccountFrozen", 1), ("AccountFrozen", 2)} < KNOWN.keys()
    old = made("AccountFrozen", {})
    validator(KNOWN["AccountFrozen", 1]).validate(old)
    with pytest.raises(ValidationError):
        validator(KNOWN["AccountFrozen", 2]).validate({**old, "schema": 2})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("MoneyDeposited", {"money": 0}),
        ("MoneyDeposited", {"money": 2**53}),
        ("MoneyDeposited", {"money": 1, "transfer": {"id": "T"}}),
        ("AccountCreated", {"owner": "Ada"}),
        ("OwnerUpdated", {"owner": 7}),
    ],
)
def test_a_body_that_is_none_does_not_fit(kind: str, body: Any) -> None:
    with pytest.raises(ValidationError):
        validator(KNOWN[kind, 1]).validate(made(kind, body))


def test_a_field_of_a_later_release_is_no_fault() -> None:
    event = made("MoneyDeposited", {"money": 1, "fee": 0})
    validator(KNOWN["MoneyDeposited", 1]).validate({**event, "seal": "wax"})


# ------------------------------------------------------------------ of another application


def shelf(**options: Any) -> Aggregate[Any, Any]:
    return Aggregate(
        "shelf",
        initial=dict,
        decide=lambda *_: [],
        evolve=lambda state, _: state,
        kinds=["BoxPut", "BoxTaken"],
        upcasters={("BoxPut", 1): lambda event: event["body"]},
        to_json=dict,
        of_json=dict,
        **options,
    )


def test_an_application_says_what_it_likes() -> None:
    box = {"type": "object", "required": ["box"], "properties": {"box": {"type": "string"}}}
    store = Application("store", aggregates=[shelf(bodies={"BoxPut": box})])
    schemas = EventSchemas(store)
    assert [*schemas.all] == [("BoxPut", 1), ("BoxPut", 2), ("BoxTaken", 1)]
    bodies = {key: schema["properties"]["body"] for key, schema in schemas.all.items()}
    assert bodies["BoxPut", 2] == box
    assert bodies["BoxPut", 1] == bodies["BoxTaken", 1] == {"type": "object"}
    document = StreamContract(store, schemas).document
    assert document["channels"]["log"]["address"] == "store-log.{partition}"


@pytest.mark.parametrize("strange", ["BoxSeen", ("BoxPut", 3), ("BoxPut", 0)])
def test_a_body_of_what_is_none_of_its_kinds_is_an_error(strange: Any) -> None:
    with pytest.raises(ValueError, match="none of its kinds and schemas"):
        shelf(bodies={strange: dict[str, str]})


# ------------------------------------------------------------------ the AsyncAPI document


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, each in part.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def found(reference: str) -> Any:
    part: Any = DOCUMENT
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        part = part[step]
    return part


def test_the_document_holds_together() -> None:
    """What AsyncAPI 3.0 asks of it; AsyncAPI's own parser is no part of the tests."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert all(found(each) for each in references(DOCUMENT))
    for name, channel in DOCUMENT["channels"].items():
        assert all(
            each in DOCUMENT["servers"] for each in map(last, references(channel["servers"]))
        )
        assert set(re.findall("{(.*?)}", channel["address"])) == {*channel.get("parameters", ())}
        assert all(re.fullmatch(r"[\w.-]+", each) for each in channel["messages"]), name
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        assert operation["action"] == "send"
        assert [each["$ref"] for each in operation["messages"]] == [
            f"{channel}/messages/{each}" for each in found(channel)["messages"]
        ]
    for message in DOCUMENT["components"]["messages"].values():
        Draft202012Validator.check_schema(message["payload"]["schema"])


def last(reference: str) -> str:
    return reference.rpartition("/")[2]


def test_it_has_the_parameters_that_the_feed_checks() -> None:
    query = DOCUMENT["operations"]["readEvents"]["bindings"]["http"]["query"]
    assert query["properties"].keys() == FeedQuery.model_fields.keys()
    assert query["properties"]["limit"]["maximum"] == 1000
