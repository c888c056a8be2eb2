"""The checker's arithmetic of holds and reversals (17 and 18), and of what is available (5)."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from itertools import groupby
from typing import Any, cast

import pytest

from pipeline.eventstore import EventStore
from pipeline.model.events import Event, new_event
from pipeline.operations.checker.history import Answer, Command, ExpectedEvents
from pipeline.operations.checker.ledger import Ledger
from pipeline.operations.checker.report import TITLES

ANN, BOB = (f"01J00000000000000000000{name}" for name in ("ANN", "BB0"))
PAST = "2026-03-01T12:00:00Z"
TO_COME = "2999-03-01T12:00:00Z"

Happened = tuple[str, str, dict[str, Any]]

OPENED: list[Happened] = [
    (ANN, "AccountCreated", {"owner": "Ann", "money": 100}),
    (BOB, "AccountCreated", {"owner": "Bob", "money": 0}),
]


def held(money: int = 60, until: str = TO_COME, name: str = "h") -> Happened:
    return ANN, "MoneyHeld", {"hold": name, "money": money, "expires_at": until}


def captured(money: int = 60, released: int = 0) -> Happened:
    return ANN, "HoldCaptured", {"hold": "h", "money": money, "released": released}


def ended(kind: str = "HoldVoided", released: int = 60) -> Happened:
    return ANN, kind, {"hold": "h", "released": released}


def legs(number: str, payer: str, payee: str, money: int, **more: str) -> list[Happened]:
    ids = {"id": number, **more}
    return [
        (payer, "MoneyWithdrawn", {"money": money, "transfer": {**ids, "counterparty": payee}}),
        (payee, "MoneyDeposited", {"money": money, "transfer": {**ids, "counterparty": payer}}),
    ]


def events_of(*happened: Happened) -> list[Event]:
    """By account, in order of version."""
    versions: dict[str, int] = {}
    made = []
    for account, kind, body in happened:
        versions[account] = versions.get(account, 0) + 1
        made.append(new_event(account, versions[account], kind, body))
    return sorted(made, key=lambda event: (event["slot"], event["account_id"], event["version"]))


class Stored:
    """Of the event store what the checker reads again; `later` happens after the first walk."""

    def __init__(self, events: list[Event], later: list[Event]) -> None:
        self.events, self._later = events, later

    async def replay(self) -> AsyncIterator[list[Event]]:
        yield self.events

    async def walk(self, account_id: str) -> AsyncGenerator[list[Event], None]:
        yield [each for each in self.events if each["account_id"] == account_id]

    async def load_many(self, ids: Collection[str]) -> dict[str, list[Event]]:
        by_account = groupby([*self.events, *self._later], key=lambda event: event["account_id"])
        return {name: [*events] for name, events in by_account if name in ids}


async def judged(
    *happened: Happened, later: tuple[Happened, ...] = (), expected: ExpectedEvents | None = None
) -> dict[int, list[str]]:
    """The violations, by the number of their invariant."""
    every = events_of(*OPENED, *happened, *later)
    late = [each for each in every if (each["kind"], each["body"]) in [x[1:] for x in later]]
    stored = Stored([each for each in every if each not in late], late)
    store, ledger = cast(EventStore, stored), Ledger(expected)
    async for account in ledger.walk(stored.replay()):
        await ledger.reversals.close(account.id, store)
    await ledger.holds.settle(store, 0.0)
    faults = {
        1: ledger.money,
        2: ledger.versions,
        5: ledger.below_zero,
        17: ledger.holds.faults,
        18: ledger.reversals.faults,
    }
    if expected is not None:
        expected.close()
        faults[3] = expected.faults
    assert faults.keys() <= TITLES.keys()
    return {number: each.examples for number, each in faults.items() if each.count}


SOUND: list[list[Happened]] = [
    [held()],
    [held(), captured()],
    [held(), captured(20, 40), (ANN, "MoneyWithdrawn", {"money": 80})],
    [held(), ended()],
    [held(), ended("HoldExpired"), held()],
    [held(), (ANN, "AccountFrozen", {"reason": ""}), ended("HoldExpired")],
    [held(), (ANN, "MoneyWithdrawn", {"money": 40})],
    [held(until=PAST), ended("HoldExpired")],
    [*legs("t", ANN, BOB, 7), *legs("r", BOB, ANN, 7, reverses="t")],
]


@pytest.mark.parametrize("happened", SOUND)
async def test_sound_holds_and_reversals(happened: list[Happened]) -> None:
    assert await judged(*happened) == {}


BROKEN: list[tuple[int, list[Happened]]] = [
    (17, [captured()]),
    (17, [ended()]),
    (17, [held(), captured(), captured(0)]),
    (17, [held(), captured(61)]),
    (17, [held(), captured(10, 40)]),
    (17, [held(), ended(), ended("HoldExpired")]),
    (17, [held(), ended(released=59)]),
    (17, [held(), held()]),
    (17, [held(0)]),
    (17, [held(until="soon")]),
    (17, [(ANN, "HoldVoided", {"hold": ["h"], "released": 1})]),
    (17, [held(until=PAST)]),
    (5, [held(), (ANN, "MoneyWithdrawn", {"money": 41})]),
    (5, [held(), held(41, name="i")]),
    (1, [held(), (ANN, "AccountFrozen", {"reason": ""}), captured()]),
    (18, legs("r", ANN, BOB, 7, reverses="t")),
    (18, [*legs("r", BOB, ANN, 0, reverses="t"), *legs("t", ANN, BOB, 0)]),
    (18, [*legs("t", ANN, BOB, 7), *legs("r", BOB, ANN, 6, reverses="t")]),
    (18, [*legs("t", ANN, BOB, 7), *legs("r", ANN, BOB, 7, reverses="t")]),
    (
        18,
        [
            *legs("t", ANN, BOB, 7),
            *legs("u", ANN, BOB, 7),
            *legs("r", BOB, ANN, 7, reverses="t"),
            *legs("q", BOB, ANN, 7, reverses="t"),
        ],
    ),
]


@pytest.mark.parametrize(("number", "happened"), BROKEN)
async def test_broken_ones_are_named(number: int, happened: list[Happened]) -> None:
    assert [*await judged(*happened)] == [number]


async def test_a_hold_that_ends_while_the_checker_reads_is_not_late() -> None:
    assert await judged(held(until=PAST), later=(ended("HoldExpired"),)) == {}


async def test_what_clients_were_told_of_holds_and_reversals() -> None:
    history = [
        Answer(Command("create", money=100, owner="Ann"), 201, ANN, 1),
        Answer(Command("create", money=0, owner="Bob"), 201, BOB, 1),
        Answer(Command("transfer", ANN, 7, to=BOB), 200, ANN, 2),
        Answer(Command("reverse", ANN, 7, to=BOB), 200, ANN, 3),
        Answer(Command("hold", ANN, 60), 200, ANN, 4),
        Answer(Command("capture", ANN, 50, to="h"), 200, ANN, 5),
        Answer(Command("hold", ANN, 1), 200, ANN, 6),
    ]
    happened = [
        *legs("t", ANN, BOB, 7),
        *legs("r", BOB, ANN, 7, reverses="t"),
        held(),
        captured(50, 10),
        held(1),
        ended("HoldExpired", 1),
    ]
    assert await judged(*happened, expected=ExpectedEvents.of(history, alone=True)) == {}
    wrong = [*history[:-2], Answer(Command("void", ANN, to="h"), 200, ANN, 5), history[-1]]
    found = await judged(*happened, expected=ExpectedEvents.of(wrong, alone=True))
    assert [*found] == [3]
