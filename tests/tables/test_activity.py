"""What is counted of a batch; anybody may have published anything in it."""

from collections import Counter
from typing import Any, cast

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.banking.money import MAX_MONEY, turnover
from pipeline.bridge import Batch
from pipeline.model.events import encode, new_event
from pipeline.tables.activity import MOST, added, tally

ACCOUNT = "01J00000000000000000000000"


def batch_of(messages: list[tuple[int, bytes]]) -> Batch:
    feed = cast(Any, None)  # asked only whether it was sought since
    return Batch(0, 0, messages, feed, 0, None)


def test_messages_are_read_once_for_all_agents() -> None:
    batch, read = batch_of([(1, b"1"), (2, b"2")]), list[bytes]()

    def length(data: bytes) -> int:
        read.append(data)
        return len(data)

    assert batch.read(length) == batch.read(length) == [1, 1]
    assert read == [b"1", b"2"]
    assert batch.read(bytes.decode) == ["1", "2"]


def test_only_amounts_of_money_are_added_up() -> None:
    """Anything above would not fit into the changelog, and end the agent."""
    amounts: list[Any] = [5, MAX_MONEY, 2**63 - 1, -1, 1.5, True, "7", None]
    events = [new_event(ACCOUNT, 1, CREATED, {"owner": "Ada", "money": 2})]
    events += [new_event(ACCOUNT, 2, DEPOSITED, {"money": each}) for each in amounts]
    data = [(number, encode(event)) for number, event in enumerate(events)]
    batch = batch_of([*data, (99, b"no event")])
    sums: Counter[str] = Counter()
    tally(batch, turnover, sums)
    assert sums == {
        "AccountCreated:events": 1,
        "AccountCreated:money": 2,
        "MoneyDeposited:events": len(amounts),
        "MoneyDeposited:money": 5,
    }


def test_a_sum_stays_what_json_can_hold() -> None:
    assert added(3, 4) == 7
    assert added(MOST - 1, MAX_MONEY - 1) == MOST == 2**63 - 1
