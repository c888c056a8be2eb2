"""Holds and reversals, pure: what an account decides, what its events leave, and when a hold is
ended by its time."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.banking.account import ACCOUNT, REVERSAL, Account, decide, decide_reversal
from pipeline.banking.application import BANK
from pipeline.banking.balance import BALANCE
from pipeline.banking.commands import (
    Capture,
    Close,
    Command,
    Deposit,
    ExpireHold,
    Freeze,
    Hold,
    ReverseTransfer,
    Void,
    Withdraw,
)
from pipeline.banking.errors import (
    AccountClosed,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    HoldNotDue,
    HoldNotFound,
    HoldTooLong,
    HoldTooSmall,
    InsufficientFunds,
    TooManyHolds,
)
from pipeline.banking.expiry import EXPIRY
from pipeline.banking.holds import LONGEST, MOST, Holds
from pipeline.banking.statement import STATEMENT
from pipeline.commands import AggregateUnreadable
from pipeline.commands.snapshots import snapshot_of, trusted
from pipeline.model.aggregate import Refused
from pipeline.model.events import Event, new_event
from pipeline.model.process import Send
from pipeline.testing import reacted
from tests.accounts import fold

ID, OTHER = "01JD0000000000000000000000", "01JD0000000000000000000001"
NOON = datetime(2026, 3, 1, 12)
AT = "2026-03-01T12:01:00Z"
LATER = "2026-03-01T12:02:00Z"

OPENED = ("AccountCreated", {"owner": "Ada", "money": 10})
HELD = ("MoneyHeld", {"hold": "h", "money": 7, "expires_at": AT})
SECOND = ("MoneyHeld", {"hold": "i", "money": 2, "expires_at": LATER})
FROZEN = ("AccountFrozen", {"reason": ""})
CLOSED = ("AccountClosed", dict[str, Any]())


def history(*happened: tuple[str, Any]) -> list[Event]:
    return [new_event(ID, n, kind, body) for n, (kind, body) in enumerate(happened, start=1)]


def after(*happened: tuple[str, Any]) -> Account:
    return fold(ID, history(*happened)).state


def wanted(money: int, seconds: float = 60) -> Hold:
    return Hold("h", money, NOON + timedelta(seconds=seconds), NOON)


@pytest.mark.parametrize(
    ("happened", "when", "then"),
    [
        ([OPENED], wanted(7), HELD),
        ([OPENED], wanted(10), ("MoneyHeld", {**HELD[1], "money": 10})),
        ([OPENED, HELD], Withdraw(3), ("MoneyWithdrawn", {"money": 3})),
        ([OPENED, HELD], Capture("h"), ("HoldCaptured", {"hold": "h", "money": 7, "released": 0})),
        (
            [OPENED, HELD],
            Capture("h", 5),
            ("HoldCaptured", {"hold": "h", "money": 5, "released": 2}),
        ),
        ([OPENED, HELD], Void("h"), ("HoldVoided", {"hold": "h", "released": 7})),
        (
            [OPENED, HELD],
            ExpireHold("h", NOON + timedelta(seconds=60)),
            ("HoldExpired", {"hold": "h", "released": 7}),
        ),
        ([OPENED, HELD, FROZEN], Void("h"), ("HoldVoided", {"hold": "h", "released": 7})),
        (
            [OPENED, HELD, FROZEN],
            ExpireHold("h", datetime(2027, 1, 1, tzinfo=UTC)),
            ("HoldExpired", {"hold": "h", "released": 7}),
        ),
    ],
)
def test_decides(happened: list[tuple[str, Any]], when: Command, then: tuple[str, Any]) -> None:
    assert decide(when, after(*happened)) == [then]


VOIDED = ("HoldVoided", {"hold": "h", "released": 7})
CAPTURED = ("HoldCaptured", {"hold": "h", "money": 7, "released": 0})


@pytest.mark.parametrize(
    ("happened", "when", "then"),
    [
        ([], wanted(1), AccountNotFound),
        ([], Capture("h"), AccountNotFound),
        ([], Void("h"), AccountNotFound),
        ([OPENED], wanted(11), InsufficientFunds),
        ([OPENED, HELD], wanted(4), InsufficientFunds),
        ([OPENED, HELD], Withdraw(4), InsufficientFunds),
        ([OPENED, HELD], Withdraw(4, {"id": "t", "counterparty": OTHER}), InsufficientFunds),
        ([OPENED, HELD, ("MoneyWithdrawn", {"money": 3})], Close(), AccountNotEmpty),
        ([OPENED], wanted(1, seconds=0), HoldTooLong),
        ([OPENED], wanted(1, seconds=-1), HoldTooLong),
        ([OPENED], wanted(1, seconds=LONGEST.total_seconds() + 1), HoldTooLong),
        ([OPENED], Capture("h"), HoldNotFound),
        ([OPENED, HELD], Capture("i"), HoldNotFound),
        ([OPENED, HELD], Capture("h", 8), HoldTooSmall),
        ([OPENED, HELD, CAPTURED], Capture("h"), HoldNotFound),
        ([OPENED, HELD, CAPTURED], ExpireHold("h", NOON + LONGEST), HoldNotFound),
        ([OPENED, HELD, VOIDED], Void("h"), HoldNotFound),
        ([OPENED, HELD], ExpireHold("h", NOON), HoldNotDue),
        ([OPENED, HELD, FROZEN], wanted(1), AccountFrozen),
        ([OPENED, HELD, FROZEN], Capture("h"), AccountFrozen),
        (
            [OPENED, HELD, CAPTURED, ("MoneyWithdrawn", {"money": 3}), CLOSED],
            Void("h"),
            AccountClosed,
        ),
    ],
)
def test_refuses(happened: list[tuple[str, Any]], when: Command, then: type[Refused]) -> None:
    with pytest.raises(then):
        decide(when, after(*happened))


def test_an_account_has_only_so_many_open_holds() -> None:
    holds = [("MoneyHeld", {**HELD[1], "hold": f"h{n}", "money": 1}) for n in range(MOST)]
    rich = ("AccountCreated", {"owner": "Ada", "money": 1000})
    with pytest.raises(TooManyHolds):
        decide(wanted(1), after(rich, *holds))
    ended = ("HoldVoided", {"hold": "h7", "released": 1})
    assert decide(wanted(1), after(rich, *holds, ended))


def test_what_is_held_is_in_the_balance_and_not_available() -> None:
    state = after(OPENED, HELD, SECOND)
    assert (state.balance, state.available) == (10, 1)
    state = after(OPENED, HELD, SECOND, ("HoldCaptured", {"hold": "h", "money": 5, "released": 2}))
    assert (state.balance, state.available, [*state.holds]) == (5, 3, ["i"])
    for kind in ("HoldVoided", "HoldExpired"):
        state = after(OPENED, HELD, SECOND, (kind, {"hold": "h", "released": 7}))
        assert (state.balance, state.available, [*state.holds]) == (10, 8, ["i"])
    for other in (FROZEN, ("OwnerUpdated", {"owner": "Bo"}), ("MoneyDeposited", {"money": 1})):
        assert [*after(OPENED, HELD, other).holds] == ["h"]


@pytest.mark.parametrize(
    "wrong", [HELD, ("HoldVoided", {"hold": "i", "released": 1}), ("HoldExpired", {})], ids=str
)
def test_an_event_that_fits_no_hold_leaves_the_account_unreadable(wrong: tuple[str, Any]) -> None:
    with pytest.raises(AggregateUnreadable):
        fold(ID, history(OPENED, HELD, wrong))


def test_a_snapshot_has_the_open_holds_and_one_of_before_is_still_read() -> None:
    state = fold(ID, history(OPENED, HELD))
    snapshot = snapshot_of(ACCOUNT, state)
    assert snapshot is not None
    assert trusted(ACCOUNT, snapshot) == state
    before = {"owner": "Ada", "balance": 10, "status": "open"}
    assert ACCOUNT.of_json(before) == after(OPENED)


def test_documents_have_the_new_kinds() -> None:
    events = history(
        OPENED, HELD, SECOND, ("HoldCaptured", {"hold": "h", "money": 5, "released": 2})
    )
    balance: Any = BALANCE.fold_all(events)
    assert balance["balance"] == 5
    entries: Any = STATEMENT.replay(events).documents
    shown = [(each["kind"], each["amount"], each["balance"]) for each in entries]
    assert shown == [
        ("AccountCreated", 10, 10),
        ("MoneyHeld", 0, 10),
        ("MoneyHeld", 0, 10),
        ("HoldCaptured", -5, 5),
    ]
    for kind in ("HoldVoided", "HoldExpired"):
        ended = history(OPENED, HELD, (kind, {"hold": "h", "released": 7}))
        entry: Any = STATEMENT.replay(ended).document
        assert (entry["amount"], entry["balance"]) == (0, 10)
        document: Any = BALANCE.fold_all(ended)
        assert document["balance"] == 10


def test_the_projection_of_the_page_shows_what_is_available() -> None:
    page = Path(__file__).parents[2] / "docs" / "holds.md"
    (code,) = re.findall("```python\n(.*?)```", page.read_text(), re.DOTALL)
    made: dict[str, Any] = {}
    exec(code, made)
    part = ("HoldCaptured", {"hold": "h", "money": 5, "released": 2})
    for events in ([OPENED, HELD], [OPENED, HELD, SECOND, part], [OPENED, HELD, VOIDED]):
        document = made["AVAILABLE"].fold_all(history(*events))
        assert document["available"] == after(*events).available


# ------------------------------------------------------------------ expiry


def test_a_hold_expires_at_its_time() -> None:
    due = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    one = reacted(EXPIRY, *history(OPENED, HELD), application=BANK).sends().due(due)
    expire = Send("account", ID, ExpireHold("h", due))
    one.when_due().sends(expire).due(None)
    reacted(EXPIRY, *history(OPENED, HELD, VOIDED), application=BANK).sends().due(None)


def test_each_hold_has_its_own_time() -> None:
    first, second = (datetime(2026, 3, 1, 12, minute, tzinfo=UTC) for minute in (1, 2))
    both = reacted(EXPIRY, *history(OPENED, SECOND, HELD), application=BANK).due(first)
    left = both.when_due().sends(Send("account", ID, ExpireHold("h", first))).due(second)
    left.when_due().sends(Send("account", ID, ExpireHold("i", second))).due(None)
    reacted(EXPIRY, *history(OPENED, SECOND, HELD, CAPTURED), application=BANK).due(second)


# ------------------------------------------------------------------ any commands

seconds = st.integers(1, 9)
names = st.sampled_from("abc")
money = st.integers(1, 9)
commands = st.one_of(
    st.builds(Deposit, money),
    st.builds(Withdraw, money),
    st.builds(Hold, names, money, st.just(NOON + timedelta(seconds=9)), st.just(NOON)),
    st.builds(Capture, names, st.one_of(st.none(), money)),
    st.builds(Void, names),
    st.builds(ExpireHold, names, st.builds(lambda s: NOON + timedelta(seconds=s), seconds)),
    st.builds(Freeze),
)


@given(st.lists(commands, max_size=40))
def test_no_commands_take_what_is_held(sequence: list[Command]) -> None:
    """Against a model as plain as can be. A name is not used again while its hold is open."""
    events = history(OPENED)
    model: dict[str, int] = {}
    balance = 10
    for command in sequence:
        state = fold(ID, events).state
        if isinstance(command, Hold) and command.hold in state.holds:
            continue
        try:
            ((kind, body),) = decide(command, state)
        except Refused:
            continue
        events.append(new_event(ID, len(events) + 1, kind, body))
        match command:
            case Deposit(money=amount):
                balance += amount
            case Withdraw(money=amount):
                balance -= amount
            case Hold():
                model[command.hold] = command.money
            case Capture():
                held = model.pop(command.hold)
                balance -= held if command.money is None else command.money
            case Void() | ExpireHold():
                model.pop(command.hold)
            case _:
                pass
        state = fold(ID, events).state
        assert state.balance == balance
        assert {name: each["money"] for name, each in state.holds.items()} == model
        assert 0 <= state.available == balance - sum(model.values())


# ------------------------------------------------------------------ reversals

BACK = ReverseTransfer("r", "t", ID, OTHER, 7)


def test_a_reversal_moves_the_money_back_and_names_the_transfer() -> None:
    legs = [*decide_reversal(BACK, Account("Ada", 0, "open"), Account("Bo", 7, "open"))]
    ids = {"id": "r", "reverses": "t"}
    assert legs == [
        [("MoneyDeposited", {"money": 7, "transfer": {**ids, "counterparty": OTHER}})],
        [("MoneyWithdrawn", {"money": 7, "transfer": {**ids, "counterparty": ID}})],
    ]


def test_what_is_held_is_not_given_back() -> None:
    hold: Holds = {"h": {"money": 1, "expires_at": AT}}
    for payee in (Account("Bo", 6, "open"), Account("Bo", 7, "open", hold)):
        with pytest.raises(InsufficientFunds):
            [*decide_reversal(BACK, Account("Ada", 0, "open"), payee)]
    with pytest.raises(AccountFrozen):
        [*decide_reversal(BACK, Account("Ada", 0, "frozen"), Account("Bo", 7, "open"))]


def test_a_reversal_has_a_key_that_no_client_can_send() -> None:
    assert REVERSAL.only_key(BACK) == "reversal\tt"
