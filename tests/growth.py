"""What a query costs as a bank grows: the same question to a small bank and to a large one.

Both are asked in turns and their medians compared, so that a busy machine is busy for both.
"""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from pymongo import MongoClient
from ulid import ULID

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, Mirror
from pipeline.model.events import Event, new_event
from tests.harness import rounds


class Asked(Protocol):
    """Who is asked."""

    async def turn(self) -> None:
        """Be ready for the next question."""


B = TypeVar("B", bound=Asked)

SMALL: Final = 1_000
LARGE: Final = rounds(12_000, 50_000)
MOST: Final = 3.0
"""How much more the large bank's answer may cost."""
EACH: Final = 10
"""Events of an account, in both: the cost of an account is another question."""

WAKE: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""When the first instance of a process is to be looked at."""

_LIST: Final = 1000
_ROUNDS: Final = 7
_TRIES: Final = 5

Ask = Callable[[B], Awaitable[object]]
"""One question. One that returns a float tells how long the part of it took that matters."""


def histories(number: int) -> Iterator[list[Event]]:
    """Accounts that have so many events in all, each with a key of its own."""
    for _ in range(number // EACH):
        account_id = str(ULID())
        yield [_event(account_id, version) for version in range(1, EACH + 1)]


def _event(account_id: str, version: int) -> Event:
    body: Any = {"money": 5} if version > 1 else {"owner": f"Ada {account_id}", "money": 5}
    event = new_event(account_id, version, DEPOSITED if version > 1 else CREATED, body)
    event["idempotency_key"] = f"key of {event['_id']}"
    return event


@dataclass
class Bank:
    """A bank, and the events that it was filled with."""

    store: EventStore
    js: JetStream
    bucket: Bucket
    mirror: Mirror
    events: list[Event]
    token: str
    """Where the change stream stood when the bank was filled."""

    @property
    def any(self) -> Event:
        """One of them, another one each time: none is found because it was asked for before."""
        return random.choice(self.events)

    def new(self) -> Event:
        """The first event of a new account."""
        return _event(str(ULID()), 1)

    async def turn(self) -> None:
        return None


def fill(url: str, database: str, number: int) -> list[Event]:
    """Put that many events into the store, and a snapshot for each account; returns the events."""
    events = [event for history in histories(number) for event in history]
    snapshots = [{"_id": event["account_id"], "version": 1} for event in events[::EACH]]
    filled: list[tuple[str, list[Any]]] = [
        ("events", [*events]),
        ("snapshots", snapshots),
        ("processes", [*instances(event["account_id"] for event in events[::EACH])]),
    ]
    with MongoClient[dict[str, Any]](url, retryWrites=False) as client:
        for name, documents in filled:
            for at in range(0, len(documents), _LIST):
                client[database][name].insert_many(documents[at : at + _LIST], ordered=False)
    return events


def instances(account_ids: Iterable[str]) -> Iterator[Any]:
    """An instance of the process `growth` for each account; each waits, and each tenth is
    parked."""
    for number, account_id in enumerate(account_ids):
        wake = WAKE + timedelta(seconds=number)
        instance = {"_id": f"growth/{account_id}", "process": "growth", "aggregate_id": account_id}
        parked = {} if number % 10 else {"parked": {"since": wake, "retry": wake}}
        yield {**instance, "revision": 1, "wake": wake, **parked}


async def ratios(asks: Mapping[str, Ask[B]], small: B, large: B) -> dict[str, float]:
    """How much more the large one costs, for each question; the best of some tries, for noise may
    slow either down and makes none of them quick."""
    found: dict[str, float] = {}
    for _ in range(_TRIES):
        for name, ask in asks.items():
            if found.get(name, MOST + 1) > MOST:
                less, more = await _medians(ask, small, large)
                print(f"{name:30} {less * 1e3:9.2f} ms {more * 1e3:9.2f} ms {more / less:6.2f}")
                found[name] = min(found.get(name, more / less), more / less)
    return found


async def _medians(ask: Ask[B], small: B, large: B) -> tuple[float, float]:
    took: tuple[list[float], list[float]] = [], []
    for _ in range(_ROUNDS + 1):
        for bank, times in zip((small, large), took, strict=True):
            await bank.turn()
            began = time.perf_counter()
            told = await ask(bank)
            took_all = time.perf_counter() - began
            times.append(told if isinstance(told, float) else took_all)
    less, more = (statistics.median(times[1:]) for times in took)  # the first one warms up
    return less, more


def public(*kinds: type) -> set[str]:
    """What others may call, as `Class.method`."""
    return {
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, what in vars(kind).items()
        if not name.startswith("_") and callable(what)
    }
