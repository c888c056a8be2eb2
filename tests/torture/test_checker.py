"""The judge's arithmetic: what is sound passes, and each lie is found out."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nacl.secret import Aead

from tests.torture.breaches import Breaches
from tests.torture.checker.fold import PROJECTIONS, Event, owners, slot, states
from tests.torture.checker.guards import check_guards, check_replicas
from tests.torture.checker.holds import check_holds, check_reversals
from tests.torture.checker.personal import Key, check_keys, found, gone, opened
from tests.torture.checker.shown import check_documents, check_groups, check_log, check_rebuilt
from tests.torture.checker.stores import Logged, Shown
from tests.torture.checker.truth import check_history, check_store, check_sums
from tests.torture.history import Attempt, Command, History
from tests.torture.parcels import check_searches

ADA, BOB = "01K0000000000000000000000A", "01K0000000000000000000000B"
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678000)


def event(account: str, version: int, kind: str, key: str | None = None, **body: Any) -> Event:
    made = {"_id": f"{account}-{version}", "account_id": account, "version": version}
    made |= {"kind": kind, "body": body, "slot": slot(account), "created_at": WHEN}
    return made | ({"idempotency_key": key} if key else {})


def bank() -> dict[str, list[Event]]:
    """Ada opens with 10, gives Bob 4; Bob opened with nothing."""
    paid, got = ({"id": "T", "counterparty": other} for other in (BOB, ADA))
    return {
        ADA: [
            event(ADA, 1, "AccountCreated", "k1", owner="Ada", money=10),
            event(ADA, 2, "MoneyWithdrawn", "k3", money=4, transfer=paid),
        ],
        BOB: [
            event(BOB, 1, "AccountCreated", "k2", owner="Bob", money=0),
            event(BOB, 2, "MoneyDeposited", money=4, transfer=got),
        ],
    }


def documents(projection: str) -> dict[str, Shown]:
    """As they are in the index: times are texts."""
    told = WHEN.isoformat(timespec="milliseconds") + "Z"
    return {
        name: Shown(
            fields["version"], {n: told if value == WHEN else value for n, value in fields.items()}
        )
        for name, fields in PROJECTIONS[projection](bank()).items()
    }


def told() -> History:
    """What the clients of that bank have sent, and were answered."""
    history, events = History(), bank()
    create = Command("create", "POST", "/create", {"owner": "Ada", "money": 10})
    other = Command("create", "POST", "/create", {"owner": "Bob", "money": 0})
    body = {"from": ADA, "to": BOB, "money": 4}
    transfer = Command("transfer", "POST", "/transfer", body, ADA, BOB)
    for key, command, account, version in (
        ("k1", create, ADA, 1),
        ("k2", other, BOB, 1),
        ("k3", transfer, ADA, 2),
    ):
        then = states(events[account])[version - 1]
        answer = {"id": account, "owner": then.owner, "balance": then.balance}
        answer |= {"version": version, "status": then.status, "available": then.balance}
        answer["holds"] = []
        acknowledge(history, key, command, answer)
    return history


def acknowledge(history: History, key: str, command: Command, answer: dict[str, Any]) -> None:
    attempt = Attempt(0.0, 0, 200, json.dumps(answer).encode(), None)
    history.begin(key, command).attempts.append(attempt)


def broken(breaches: Breaches) -> set[int]:
    return {breach.number for breach in breaches.found}


def judged(histories: dict[str, list[Event]], history: History | None = None) -> set[int]:
    breaches = Breaches()
    check_store(histories, breaches)
    check_history(history or told(), histories, breaches)
    return broken(breaches)


def test_a_sound_bank_passes() -> None:
    assert judged(bank()) == set()


PAST, FUTURE = "2026-01-02T03:05:00Z", "9999-01-02T03:05:00Z"


def held(*ends: tuple[str, dict[str, Any]], money: int = 4, until: str = PAST) -> set[int]:
    """What is found of Ada after a hold that ended so."""
    histories = {ADA: [event(ADA, 1, "AccountCreated", "k1", owner="Ada", money=10)]}
    happened = [("MoneyHeld", {"hold": "h", "money": money, "expires_at": until}), *ends]
    for version, (kind, body) in enumerate(happened, 2):
        histories[ADA].append(event(ADA, version, kind, **body))
    breaches = Breaches()
    check_holds(histories, breaches, datetime.now(UTC))
    return broken(breaches)


def test_holds_end_once_whole_and_at_their_time() -> None:
    captured = ("HoldCaptured", {"hold": "h", "money": 3, "released": 1})
    expired = ("HoldExpired", {"hold": "h", "released": 4})
    assert held(captured) == held(expired) == set()
    assert held() == {17}
    assert held(captured, expired) == {17}
    assert held(("HoldCaptured", {"hold": "h", "money": 4, "released": 1})) == {17}
    assert held(("HoldVoided", {"hold": "i", "released": 4}), expired) == {17}
    assert held(("MoneyWithdrawn", {"money": 7}), expired) == {5}
    assert held(until=FUTURE) == held(captured, until=FUTURE) == set()
    assert held(expired, until=FUTURE) == {17}


def test_a_parcel_that_nobody_scans_is_searched_for_once() -> None:
    def judged_parcel(*kinds: str, seconds: float = 60) -> set[int]:
        breaches = Breaches()
        events = [event("P", version, f"Parcel{kind}") for version, kind in enumerate(kinds, 1)]
        read = WHEN.replace(tzinfo=UTC) + timedelta(seconds=seconds)
        check_searches({"P": events}, breaches, read)
        return broken(breaches)

    assert judged_parcel("Sent", "Searched", "Scanned", "Searched") == set()
    assert judged_parcel("Sent", "Delivered") == judged_parcel("Sent", seconds=4) == set()
    assert judged_parcel("Sent", "Searched", "Searched") == {17}
    assert judged_parcel("Sent") == judged_parcel("Sent", "Searched", "Scanned") == {17}


def test_a_reversal_takes_back_one_transfer() -> None:
    def judged_back(*backs: str, money: int = 4, of: str = "T") -> set[int]:
        histories = bank()
        for number in backs:
            paid, got = (
                {"id": number, "counterparty": other, "reverses": of} for other in (ADA, BOB)
            )
            at = len(histories[ADA]) + 1
            histories[ADA].append(event(ADA, at, "MoneyDeposited", money=money, transfer=got))
            histories[BOB].append(event(BOB, at, "MoneyWithdrawn", money=money, transfer=paid))
        breaches = Breaches()
        check_reversals(histories, breaches)
        return broken(breaches)

    assert judged_back() == judged_back("R") == set()
    assert judged_back("R", "S") == judged_back("R", money=3) == judged_back("R", of="X") == {18}


def hidden(stored: Event, key: Key) -> Event:
    """The event as it is stored, encrypted."""
    place = f"{stored['account_id']}/{stored['version']}/{stored['kind']}"
    own = json.dumps({"body": {"owner": stored["body"].pop("owner")}})
    data = urlsafe_b64encode(Aead(key["keys"]["v0"]).encrypt(own.encode(), place.encode())).decode()
    about = {"since": 0, "fields": ["owner"], "data": data}
    return {**stored, "encrypted": about}


def test_what_is_forgotten() -> None:
    key = {"_id": ADA, "since": 0, "keys": {"v0": b"k" * 32}}
    stored = [hidden(each, key) if "owner" in each["body"] else each for each in bank()[ADA]]
    said = [*stored, event(ADA, 3, "OwnerForgotten")]
    history = told()

    def judged_with(key: Key) -> tuple[set[int], set[int]]:
        """What is wrong with the events, and with the keys."""
        histories = {**bank(), ADA: [opened(each, {ADA: key}) for each in said]}
        breaches = Breaches()
        check_keys(histories, {ADA: key}, breaches)
        assert [*gone(history, histories)] == ["Ada"]
        return judged(histories, history), broken(breaches)

    assert judged_with({"_id": ADA, "since": 3, "keys": {}}) == (set(), set())
    assert judged_with({"_id": ADA, "since": 3, "keys": {"v3": b"n" * 32}}) == (set(), set())
    assert judged_with(key) == (set(), {19})
    assert found({"Ada"}, {"there": '[{"owner": "Ada"}]', "not there": "[]"}) == ["there has 'Ada'"]


@pytest.mark.parametrize("lost", [(ADA, 1), (BOB, 1)])
def test_half_of_a_transfer_is_found_out(lost: tuple[str, int]) -> None:
    histories = bank()
    del histories[lost[0]][lost[1]]
    assert 1 in judged(histories)


def test_versions_and_balances_are_looked_at() -> None:
    histories = bank()
    histories[ADA][1]["version"] = 3
    assert 2 in judged(histories)
    histories = bank()
    histories[ADA][1]["body"]["money"] = histories[BOB][1]["body"]["money"] = 11
    assert 5 in judged(histories)


def test_what_was_told_has_to_be_stored_and_nothing_else() -> None:
    histories = bank()
    del histories[BOB]
    assert 3 in judged(histories)
    histories = bank()
    histories[ADA].append(event(ADA, 3, "MoneyDeposited", "k9", money=1))
    assert judged(histories) == {3}
    histories[ADA][-1]["idempotency_key"] = "k1"
    assert judged(histories) == {8}


def test_a_rejected_command_leaves_nothing_but_an_unknown_one_may() -> None:
    histories = bank()
    histories[ADA].append(event(ADA, 3, "MoneyWithdrawn", "k4", money=1))
    command = Command("withdraw", "POST", "/withdraw", {"id": ADA, "money": 1}, ADA)
    refusal, lost = Attempt(0.0, 0, 422, b"{}", None), Attempt(0.0, 0, 0, b"", None)
    history = told()
    sent = history.begin("k4", command)
    sent.attempts.append(refusal)
    assert judged(histories, history) == {3}
    problem = b'{"type": "/problems/store-unguarded"}'
    sent.attempts.insert(0, Attempt(0.0, 0, 503, problem, None))
    assert judged(histories, history) == {3}
    sent.attempts.insert(0, lost)
    assert judged(histories, history) == set()


def test_an_answer_that_tells_of_another_state_is_found_out() -> None:
    history = told()
    first = history.all[0].attempts[0]
    wrong = {**first.document, "balance": 6, "version": 2}
    history.all[0].attempts[0] = first._replace(body=json.dumps(wrong).encode())
    assert judged(bank(), history) == {3}


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(
    ("change", "version"),
    [({"balance": 7}, 1), ({"version": 3}, 1), ({"slot": 1}, 1), ({"odd": 1}, 1), ({}, 3)],
)
def test_documents_are_compared_field_by_field(
    projection: str, change: dict[str, Any], version: int
) -> None:
    wanted, there = PROJECTIONS[projection](bank()), documents(projection)
    breaches = Breaches()
    check_documents(wanted, there, breaches)
    check_rebuilt(there, there, breaches)
    assert broken(breaches) == set()
    name, first = next(iter(there.items()))
    lie = Shown(first.version + version - 1, first.source | change)
    check_documents(wanted, {**there, name: lie}, breaches)
    assert broken(breaches) == {4}
    for wrong in (dict(list(there.items())[1:]), {**there, "ghost": first}):
        breaches = Breaches()
        check_documents(wanted, wrong, breaches)
        check_rebuilt(there, wrong, breaches)
        assert broken(breaches) == {4, 10}


@pytest.mark.parametrize("field", ["updated_at", "at"])
def test_times_are_compared_as_times(field: str) -> None:
    projection = "balance" if field == "updated_at" else "statement"
    wanted, there = PROJECTIONS[projection](bank()), documents(projection)
    name, first = next(iter(there.items()))
    for text, right in (
        ("2026-01-02T03:04:05.678000Z", True),
        ("2026-01-02T04:04:05.678+01:00", True),
        ("2026-01-02T03:04:05.679Z", False),
        ("", False),
    ):
        breaches = Breaches()
        told = Shown(first.version, first.source | {field: text})
        check_documents(wanted, {**there, name: told}, breaches)
        assert (not breaches.found) is right


def test_sums_are_compared() -> None:
    breaches = Breaches()
    check_sums(bank(), {ADA: 6, BOB: 4}, breaches)
    assert broken(breaches) == set()
    check_sums(bank(), {ADA: 7, BOB: 4}, breaches)
    assert broken(breaches) == {1}


def test_the_log_has_each_event_once_in_order_and_without_a_gap() -> None:
    ada = [event(ADA, version, "MoneyDeposited", money=1) for version in range(1, 5)]

    def found(*log: tuple[int, Event | None, bool]) -> set[int]:
        breaches = Breaches()
        check_log([Logged(*each) for each in log], breaches)
        return broken(breaches)

    assert found(*((n, each, False) for n, each in enumerate(ada, 1))) == set()
    assert found((1, ada[0], False), (2, ada[0], False)) == {11}
    assert found((1, ada[1], False), (2, ada[0], False)) == {11}
    assert found((1, ada[0], False), (2, ada[2], False)) == {11}
    assert found((1, ada[0], False), (2, None, True), (3, ada[2], False)) == set()
    assert found((1, ada[0], False), (3, ada[2], False)) == set()


def test_unique_indexes_and_aliases_are_looked_at() -> None:
    versions = {"key": {"slot": 1, "account_id": 1, "version": 1}, "unique": True}
    keys = {"key": {"idempotency_key": 1}, "unique": True, "sparse": True}
    aliases = {"balance": ["balance-2"], "balance-g2": ["balance-2"], "statement": ["statement-1"]}

    def found(unique: list[dict[str, Any]], aliases: dict[str, list[str]]) -> set[int]:
        breaches = Breaches()
        check_guards(unique, aliases, breaches)
        return broken(breaches)

    assert found([versions, keys], aliases) == set()
    old = {"idempotency_key": {"$exists": True}}
    assert found([versions, keys | {"partialFilterExpression": old}], aliases) == set()
    assert found([versions], aliases) == {13}
    assert found([versions, keys | {"hidden": True}], aliases) == {13}
    assert found([versions, keys | {"lacking": 1}], aliases) == {13}
    few = {"partialFilterExpression": {"kind": "AccountCreated"}}
    assert found([versions | few, keys], aliases) == {13}
    for name in ("balance", "balance-g2", "bank-checkpoints-live"):
        assert found([versions, keys], aliases | {name: ["balance-2", "restored"]}) == {13}
    assert found([versions, keys], aliases | {"restored": ["a", "b"]}) == set()
    assert found([versions, keys], {"balance": ["balance-2"]}) == {13}


def test_streams_are_on_as_many_servers_as_they_should_be() -> None:
    breaches = Breaches()
    check_replicas({"balance": 3, "KV_bank": 3}, 3, breaches)
    assert broken(breaches) == set()
    check_replicas({"balance": 3, "KV_bank": 1}, 3, breaches)
    assert broken(breaches) == {13}


def test_each_group_adds_up_to_its_accounts() -> None:
    def judged(shown: list[dict[str, Any]]) -> set[int]:
        breaches = Breaches()
        check_groups(owners(bank()), shown, breaches)
        return broken(breaches)

    ada, bob = (
        {"id": name, "shares": 1, "sums": {"balance": balance}}
        for name, balance in (("Ada", 6), ("Bob", 4))
    )
    assert judged([ada, bob]) == set()
    twice = {"id": "Ada", "shares": 2, "sums": {"balance": 12}}
    for wrong in ([ada], [twice, bob], [ada, bob, bob], [ada, bob, {**ada, "id": "ada"}]):
        assert judged(wrong) == {20}
