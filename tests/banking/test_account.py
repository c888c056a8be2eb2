"""The pure aggregate: given these events, when this command, then these events or this refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.banking.account import ACCOUNT, Account, decide, decide_transfer
from pipeline.banking.commands import (
    Close,
    Command,
    Create,
    Deposit,
    Freeze,
    MoveMoney,
    Unfreeze,
    UpdateOwner,
    Withdraw,
)
from pipeline.banking.errors import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    BalanceTooLarge,
    InsufficientFunds,
)
from pipeline.banking.events import Body
from pipeline.banking.money import MAX_MONEY
from pipeline.commands import AggregateUnreadable, Versioned
from pipeline.model.aggregate import Refused
from pipeline.model.events import Event, new_event
from pipeline.model.versioned import evolve, fold_on, initial
from tests.accounts import fold

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
    assert decide(when, fold(ID, history(*given_)).state) == [then]


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
    with pytest.raises(then):
        decide(when, fold(ID, history(*given_)).state)


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
    with pytest.raises(AggregateUnreadable, match=reason) as refusal:
        evolve(ACCOUNT, fold(ID, history(opened(5))), event)
    assert refusal.value.aggregate_id == ID


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


def execute(state: Versioned[Account], command: Command) -> list[Event]:
    """The events of the command, none when it is refused."""
    try:
        decisions = decide(command, state.state)
    except Refused:
        return []
    return [
        new_event(state.id, state.version + n, kind, body)
        for n, (kind, body) in enumerate(decisions, start=1)
    ]


@given(st.lists(commands, max_size=60))
def test_any_commands_keep_the_account_sound(sequence: list[Command]) -> None:
    """Against a model as plain as can be: status, balance, the bounds, the versions, the fold."""
    state, stored, balance, status = initial(ACCOUNT, ID), list[Event](), 0, "new"
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
        state = fold_on(ACCOUNT, state, events)
        stored += events
        assert (state.state.balance, state.state.status) == (balance, status)
        assert 0 <= state.state.balance < MAX_MONEY
    assert [event["version"] for event in stored] == list(range(1, len(stored) + 1))
    assert fold(ID, stored) == state


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000))
def test_a_transfer_nets_to_zero_or_is_refused(source: int, target: int, money: int) -> None:
    other = "01JD0000000000000000000001"
    parties = Account("Ada", source, "open"), Account("Bo", target, "open")
    try:
        legs = [*decide_transfer(MoveMoney("t", ID, other, money), *parties)]
    except InsufficientFunds:
        assert source < money
        return
    assert [[kind for kind, _ in leg] for leg in legs] == [["MoneyWithdrawn"], ["MoneyDeposited"]]
    assert [leg[0].body["transfer"]["counterparty"] for leg in legs] == [other, ID]
    after = sum(
        ACCOUNT.evolve(state, new_event(ID, 2, *leg[0])).balance
        for state, leg in zip(parties, legs, strict=True)
    )
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
    account = fold(ID, history(opened(5)))
    event: Any = {**new_event(ID, 2, "MoneyDeposited", {"money": 1}), **nonsense}
    with pytest.raises(AggregateUnreadable):
        evolve(ACCOUNT, account, event)


@pytest.mark.parametrize("kind", sorted({*ACCOUNT.schemas} - {"AccountCreated"}))
def test_an_account_begins_with_its_creation(kind: str) -> None:
    event = new_event(ID, 1, kind, {"money": 1, "owner": "Ada"})
    with pytest.raises(AggregateUnreadable, match=f"{kind} before AccountCreated"):
        fold(ID, [event])
