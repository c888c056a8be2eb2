"""The pure aggregate: given these events, when this command, then these events or this refusal."""

from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.accounts.account import Account, decide, evolve, fold, initial
from api.accounts.commands import (
    Close,
    Command,
    Create,
    Deposit,
    Freeze,
    Unfreeze,
    UpdateOwner,
    Withdraw,
)
from api.accounts.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    AccountUnreadable,
    BalanceTooLarge,
    InsufficientFunds,
    Refused,
)
from pipeline.banking.events import Body
from pipeline.banking.money import MAX_MONEY
from pipeline.model.events import Event, new_event

ID = "01JD0000000000000000000000"
MOST = MAX_MONEY - 1


def history(*happened: tuple[str, Body]) -> list[Event]:
    return [new_event(ID, n, kind, body) for n, (kind, body) in enumerate(happened, start=1)]


def opened(money: int) -> tuple[str, Body]:
    return ("AccountCreated", {"owner": "Ada", "money": money})


FROZEN: tuple[str, Body] = ("AccountFrozen", {"reason": ""})
UNFROZEN: tuple[str, Body] = ("AccountUnfrozen", {})
CLOSED: tuple[str, Body] = ("AccountClosed", {})


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        ([], Create("Ada", 5), opened(5)),
        ([], Create("Ada", 0), opened(0)),
        ([opened(0)], Deposit(MOST), ("MoneyDeposited", {"money": MOST})),
        ([opened(5)], Withdraw(5), ("MoneyWithdrawn", {"money": 5})),
        ([opened(5)], UpdateOwner("Grace"), ("OwnerUpdated", {"owner": "Grace"})),
        (
            [opened(5), ("MoneyDeposited", {"money": 2})],
            Withdraw(7, {"id": "t", "counterparty": "c"}),
            ("MoneyWithdrawn", {"money": 7, "transfer": {"id": "t", "counterparty": "c"}}),
        ),
        (
            [opened(0)],
            Deposit(1, {"id": "t", "counterparty": "c"}),
            ("MoneyDeposited", {"money": 1, "transfer": {"id": "t", "counterparty": "c"}}),
        ),
        ([opened(5)], Freeze(), FROZEN),
        ([opened(5)], Freeze("a writ"), ("AccountFrozen", {"reason": "a writ"})),
        (
            [opened(5)],
            Freeze("a writ", "call us"),
            ("AccountFrozen", {"reason": "a writ", "public_reason": "call us"}),
        ),
        ([opened(5), FROZEN], Unfreeze(), UNFROZEN),
        ([opened(5), FROZEN], Unfreeze("over"), ("AccountUnfrozen", {"reason": "over"})),
        ([opened(0)], Close("x", "y"), ("AccountClosed", {"reason": "x", "public_reason": "y"})),
        ([opened(5), FROZEN, UNFROZEN], Freeze(), FROZEN),
        ([opened(5), FROZEN, UNFROZEN], Withdraw(5), ("MoneyWithdrawn", {"money": 5})),
        ([opened(0)], Close(), CLOSED),
        ([opened(5), ("MoneyWithdrawn", {"money": 5})], Close(), CLOSED),
    ],
)
def test_decides(given_: list[tuple[str, Body]], when: Command, then: tuple[str, Body]) -> None:
    assert decide(when, fold(ID, history(*given_))) == [then]


@pytest.mark.parametrize(
    ("given_", "when", "then"),
    [
        ([], Deposit(1), AccountNotFound),
        ([], Withdraw(1), AccountNotFound),
        ([], UpdateOwner("Grace"), AccountNotFound),
        ([opened(0)], Create("Ada", 5), AccountExists),
        ([opened(5)], Withdraw(6), InsufficientFunds),
        ([opened(5), ("MoneyWithdrawn", {"money": 5})], Withdraw(1), InsufficientFunds),
        ([opened(1)], Deposit(MOST), BalanceTooLarge),
        ([opened(MOST)], Deposit(1), BalanceTooLarge),
        ([], Freeze(), AccountNotFound),
        ([], Unfreeze(), AccountNotFound),
        ([], Close(), AccountNotFound),
        ([opened(5)], Unfreeze(), AccountNotFrozen),
        ([opened(5)], Close(), AccountNotEmpty),
        ([opened(0), FROZEN], Create("Ada", 5), AccountExists),
        ([opened(0), FROZEN], Deposit(1), AccountFrozen),
        ([opened(0), FROZEN], Withdraw(1), AccountFrozen),
        ([opened(0), FROZEN], UpdateOwner("Grace"), AccountFrozen),
        ([opened(0), FROZEN], Freeze(), AccountFrozen),
        ([opened(0), FROZEN], Close(), AccountFrozen),
        ([opened(0), CLOSED], Create("Ada", 5), AccountExists),
        ([opened(0), CLOSED], Deposit(1), AccountClosed),
        ([opened(0), CLOSED], Withdraw(1), AccountClosed),
        ([opened(0), CLOSED], UpdateOwner("Grace"), AccountClosed),
        ([opened(0), CLOSED], Freeze(), AccountClosed),
        ([opened(0), CLOSED], Unfreeze(), AccountClosed),
        ([opened(0), CLOSED], Close(), AccountClosed),
    ],
)
def test_refuses(given_: list[tuple[str, Body]], when: Command, then: type[Refused]) -> None:
    with pytest.raises(then) as refusal:
        decide(when, fold(ID, history(*given_)))
    assert refusal.value.account_id == ID


@pytest.mark.parametrize("money", [0, -1, MAX_MONEY])
def test_commands_hold_no_impossible_money(money: int) -> None:
    for command in (Deposit, Withdraw):
        with pytest.raises(ValueError, match="money"):
            command(money)
    if money:
        with pytest.raises(ValueError, match="money"):
            Create("Ada", money)


NO_EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"version": 3}, "version 3 after 1"),
    ({"version": 1}, "version 1 after 1"),
    ({"kind": "MoneyBurnt"}, "unknown kind MoneyBurnt"),
    ({"schema": 2}, "schema 2 of MoneyDeposited is newer than 1"),
    ({"schema": "1"}, "schema '1' of MoneyDeposited is not known"),
    ({"body": {}}, "money"),
    ({"body": {"money": 1.5}}, "money 1.5"),
    ({"body": None}, "NoneType"),
]


@pytest.mark.parametrize(("change", "reason"), NO_EVENTS)
def test_what_is_no_next_event_leaves_the_account_unreadable(
    change: dict[str, Any], reason: str
) -> None:
    event: Any = {**new_event(ID, 2, "MoneyDeposited", {"money": 1}), **change}
    with pytest.raises(AccountUnreadable, match=reason) as refusal:
        evolve(fold(ID, history(opened(5))), event)
    assert refusal.value.account_id == ID


monies = st.one_of(st.integers(1, 100), st.integers(1, MOST))
commands = st.one_of(
    st.builds(Create, st.text(max_size=5), st.integers(0, MOST)),
    st.builds(Deposit, monies),
    st.builds(Withdraw, monies),
    st.builds(UpdateOwner, st.text(max_size=5)),
    st.builds(Freeze),
    st.builds(Unfreeze),
    st.builds(Close),
)


def execute(state: Account, command: Command) -> list[Event]:
    """The events of the command, none when it is refused."""
    try:
        decisions = decide(command, state)
    except Refused:
        return []
    return [
        new_event(state.id, state.version + n, kind, body)
        for n, (kind, body) in enumerate(decisions, start=1)
    ]


@given(st.lists(commands, max_size=60))
def test_any_commands_keep_the_account_sound(sequence: list[Command]) -> None:
    """Against a model as plain as can be: status, balance, the bounds, the versions, the fold."""
    state, stored, balance, status = initial(ID), list[Event](), 0, "new"
    for command in sequence:
        events = execute(state, command)
        needed = {Create: "new", Unfreeze: "frozen"}.get(type(command), "open")
        possible = status == needed
        match command:
            case Create(money=money) | Deposit(money=money) if possible:
                possible = balance + money < MAX_MONEY
                balance += money if possible else 0
            case Withdraw(money=money) if possible:
                possible = balance >= money
                balance -= money if possible else 0
            case Close() if possible:
                possible = balance == 0
            case _:
                pass
        becomes = {Create: "open", Freeze: "frozen", Unfreeze: "open", Close: "closed"}
        status = becomes.get(type(command), status) if possible else status
        assert len(events) == possible
        state = reduce(evolve, events, state)
        stored += events
        assert (state.balance, state.status) == (balance, status)
        assert 0 <= state.balance < MAX_MONEY
    assert [event["version"] for event in stored] == list(range(1, len(stored) + 1))
    assert fold(ID, stored) == state


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000))
def test_a_transfer_nets_to_zero_or_is_refused(source: int, target: int, money: int) -> None:
    other = "01JD0000000000000000000001"
    payer, payee = Account(ID, "Ada", source, 1, "open"), Account(other, "Bo", target, 1, "open")
    sent = execute(payer, Withdraw(money, {"id": "t", "counterparty": other}))
    got = execute(payee, Deposit(money, {"id": "t", "counterparty": ID}))
    assert bool(sent) == (source >= money)
    assert len(got) == 1
    if sent:
        after = reduce(evolve, sent, payer).balance + reduce(evolve, got, payee).balance
        assert after == source + target


@pytest.mark.parametrize(
    "nonsense",
    [
        {"_id": 5},
        {"version": 2.0},
        {"body": {"money": -1}},
        {"body": {"money": MAX_MONEY}},
        {"kind": "OwnerUpdated", "body": {"owner": 5}},
        {"kind": ["MoneyDeposited"]},
    ],
    ids=str,
)
def test_nonsense_in_an_events_place_leaves_the_account_unreadable(
    nonsense: dict[str, Any],
) -> None:
    opened = evolve(initial(ID), new_event(ID, 1, "AccountCreated", {"owner": "Ada", "money": 5}))
    event: Any = {**new_event(ID, 2, "MoneyDeposited", {"money": 1}), **nonsense}
    with pytest.raises(AccountUnreadable):
        evolve(opened, event)
