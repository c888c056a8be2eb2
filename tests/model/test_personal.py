"""Personal fields of events: encrypted, opened, forgotten, lost. Pure."""

from typing import Any

import orjson
import pytest

from pipeline.banking.account import ACCOUNT
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, OWNER_FORGOTTEN, OWNER_UPDATED
from pipeline.banking.statement import STATEMENT
from pipeline.commands import CommandContext
from pipeline.commands.execution import execute
from pipeline.commands.personal_keys import Keys
from pipeline.model.aggregate import FORGET, Aggregate, Decision
from pipeline.model.chain import NOTHING, Chain, digest, link
from pipeline.model.derived import Upcast, as_stored, before_upcast
from pipeline.model.events import Event, decode, encode, new_event
from pipeline.model.personal import (
    FORGOTTEN,
    KEY_BYTES,
    WITHHELD,
    Subject,
    SubjectKey,
    encrypted,
    opened,
    with_content_of,
    withheld,
)
from pipeline.model.projection import Projection, Unfoldable
from pipeline.model.upcasters import going_by
from pipeline.model.versioned import AggregateUnreadable, fold, initial

ACCOUNT_ID = "01JD4Q0000000000000000000A"
NAME = "Ada Lovelace"
MADE = SubjectKey(0, b"k" * KEY_BYTES)
KEY = Subject(0, {0: MADE.key})
GONE = Subject(3, {})
LOST = [None, Subject(0, {}), Subject(0, {0: b"x" * KEY_BYTES}), Subject(0, {3: MADE.key})]


class OneKey:
    """A store that counts how often it is asked."""

    obtained = 0

    async def obtain(self, subject: str, since: int) -> SubjectKey:
        self.obtained += 1
        assert (subject, since) == (ACCOUNT_ID, 0)
        return MADE


def created(owner: Any = NAME) -> Event:
    event = new_event(ACCOUNT_ID, 1, CREATED, {"owner": owner, "money": 5})
    event["idempotency_key"], event["request"] = "k", "a digest of the name"
    return event


def stored(event: Event) -> Event:
    return encrypted(event, ["owner"], MADE)


def delivered(event: Event) -> Event:
    """As it comes through the stream."""
    return decode(encode(event))


def history(subject: Subject | None) -> list[Event]:
    """Of an account whose owner is forgotten, as readers with that key have it."""
    renamed = new_event(ACCOUNT_ID, 2, OWNER_UPDATED, {"owner": "Ada King"})
    said = new_event(ACCOUNT_ID, 3, OWNER_FORGOTTEN, {})
    paid = new_event(ACCOUNT_ID, 4, DEPOSITED, {"money": 1})
    return [*(opened(stored(each), subject) for each in (created(), renamed)), said, paid]


def test_nothing_of_the_field_is_stored() -> None:
    event = created()
    kept = stored(event)
    assert kept["body"] == {"money": 5}
    assert "request" not in kept, "the name can be guessed by it"
    assert kept["encrypted"]["fields"] == ["owner"]
    assert NAME.encode() not in encode(kept)
    assert (event["body"]["owner"], event["request"]) == (NAME, "a digest of the name")
    assert stored(event) != kept, "the same name twice is not the same text twice"


async def test_the_digest_of_a_command_is_hidden_wherever_it_stands() -> None:
    """It is in the last event, which may have no personal field."""

    def decide(command: str, _: dict[str, Any]) -> list[Decision]:
        return [Decision("Made", {"by": command or None}), Decision("Sent", {"to": "Rome"})]

    thing = Aggregate[str, dict[str, Any]](
        "thing",
        initial=dict,
        decide=decide,
        evolve=lambda state, event: {**state, **event["body"]},
        kinds=["Made", "Sent", "Gone"],
        to_json=dict,
        of_json=dict,
        personal={"Made": ["by"]},
        forgotten="Gone",
    )
    store, context = OneKey(), CommandContext("c", "k", "a digest of the name")
    done = await execute(thing, NAME, initial(thing, ACCOUNT_ID), context, keys=Keys(store))
    assert store.obtained == 1
    assert done.after.state == {"by": NAME, "to": "Rome"}
    last = as_stored(done.events[-1])
    assert (last["body"], last["idempotency_key"]) == ({"to": "Rome"}, "k")
    assert "request" not in last
    assert opened(last, KEY)["request"] == "a digest of the name"
    forgotten = opened(last, GONE)
    assert (forgotten["body"], "request" in forgotten) == ({"to": "Rome"}, False)
    # Without a personal field there is nothing to hide, and no key is needed.
    done = await execute(thing, "", initial(thing, ACCOUNT_ID), context, keys=Keys(store))
    last = done.events[-1]
    assert (last["request"], as_stored(last)) == ("a digest of the name", last)
    assert store.obtained == 1


def test_names_of_different_lengths_look_alike() -> None:
    sizes = {len(stored(created("x" * length))["encrypted"]["data"]) for length in (1, 2, 5, 9)}
    assert len(sizes) == 1


def test_with_its_key_it_is_as_it_was() -> None:
    event = created()
    kept = stored(event)
    for found in (opened(kept, KEY), with_content_of(kept, event)):
        assert {**found} == {**event, "encrypted": kept["encrypted"]}
        assert as_stored(found) is kept
        assert opened(found, GONE) is found, "it is opened once"
    with_times_as_texts = opened(delivered(kept), KEY)
    assert with_times_as_texts["body"] == event["body"]


def test_without_personal_fields_nothing_is_done() -> None:
    for body in ({"money": 5}, {"owner": None, "money": 5}):
        event = new_event(ACCOUNT_ID, 1, CREATED, body)
        assert stored(event) is event
        assert with_content_of(event, event) is event
    with pytest.raises(TypeError, match="owner is no text"):
        stored(created(["Ada"]))


def test_a_forgotten_one_has_a_tombstone_and_no_digest() -> None:
    for subject in (GONE, Subject(3, KEY.keys)):  # the key is about to be deleted
        found = opened(stored(created()), subject)
        assert found["body"] == {"owner": FORGOTTEN, "money": 5}
        assert "request" not in found


@pytest.mark.parametrize("subject", LOST)
def test_a_lost_key_is_no_forgetting(subject: Subject | None) -> None:
    kept = stored(created())
    assert opened(kept, subject) is kept
    with pytest.raises(Unfoldable, match="their key is lost"):
        BALANCE.fold(None, kept)
    with pytest.raises(AggregateUnreadable, match="their key is lost"):
        fold(ACCOUNT, ACCOUNT_ID, [kept])
    assert STATEMENT.fold(None, kept)["version"] == 1, "it needs no personal field"


@pytest.mark.parametrize(
    "change",
    [
        {"account_id": ACCOUNT_ID[:-1] + "B"},
        {"version": 2},
        {"kind": OWNER_UPDATED},
        {"encrypted": None},
        {"encrypted": {"since": "0", "fields": 5}},
        {"encrypted": {"since": 0, "fields": ["owner"], "data": "AAAA"}},
    ],
)
def test_what_somebody_has_changed_can_not_be_opened(change: Any) -> None:
    event: Any = {**stored(created()), **change}
    assert opened(event, KEY) is event


def test_the_chain_covers_what_is_stored() -> None:
    kept = stored(created())
    link(kept, NOTHING)
    for subject in (KEY, GONE, None):
        assert Chain().follow(opened(kept, subject)) is None, "forgetting breaks no chain"
        assert Chain().follow(opened(delivered(kept), subject)) is None
    assert Chain().follow({**opened(kept, KEY)}) is not None
    # Who reads events over HTTP has the members alone.
    shown = orjson.loads(encode(opened(kept, KEY)))
    del shown["request"]
    for hidden in shown["encrypted"]["fields"]:
        del shown["body"][hidden]
    assert digest(shown) == kept["hash"]


def test_fields_are_decrypted_before_an_upcaster_sees_them() -> None:
    steps = {(CREATED, 1): lambda event: {**event["body"], "name": event["body"]["owner"]}}
    kept = stored({**created(), "schema": 1})
    with going_by("bank", steps):
        for event in (kept, delivered(kept)):
            found = opened(event, KEY)
            assert isinstance(found, Upcast)
            assert (found["schema"], found["body"]["name"]) == (2, NAME)
            assert before_upcast(found)["body"]["owner"] == NAME
            assert withheld(event)["body"]["name"] == WITHHELD


@pytest.mark.parametrize("subject", [KEY, GONE])
def test_after_forgetting_the_key_makes_no_difference(subject: Subject) -> None:
    after = BALANCE.fold_all(history(subject))
    assert after is not None
    assert (after["owner"], after["balance"]) == (FORGOTTEN, 6)  # type: ignore[typeddict-item]
    state = fold(ACCOUNT, ACCOUNT_ID, history(subject))
    assert (state.state.owner, state.forgotten) == (FORGOTTEN, 3)


def test_a_projection_of_every_event_never_gets_them() -> None:
    listing = Projection(
        "owners", lambda _, event: {"owner": str(event["body"].get("owner"))}, {}, every=True
    )
    for subject in (KEY, GONE):
        shown = listing.replay(history(subject)).documents
        assert [each["owner"] for each in shown] == [WITHHELD, WITHHELD, "None", "None"]  # type: ignore[typeddict-item]


def test_any_state_can_be_forgotten() -> None:
    state = fold(ACCOUNT, ACCOUNT_ID, [created()]).state
    assert [each.kind for each in ACCOUNT.decide(FORGET, state)] == [OWNER_FORGOTTEN]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"personal": {"Made": ["by"]}},
        {"forgotten": "Gone"},
        {"personal": {"Other": ["by"]}, "forgotten": "Gone"},
        {"personal": {"Made": ["by"]}, "forgotten": "Other"},
        {"personal": {"Gone": ["by"]}, "forgotten": "Gone"},
        {"personal": {"Made": "by"}, "forgotten": "Gone"},
    ],
)
def test_a_declaration_must_be_whole(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"kind|no list"):
        Aggregate(
            "thing",
            initial=dict,
            decide=lambda *_: [],
            evolve=lambda state, _: state,
            kinds=["Made", "Gone"],
            to_json=dict,
            of_json=dict,
            **wrong,
        )
