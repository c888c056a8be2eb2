"""Events of accounts that are used as accounts are: a few very often, most seldom (Zipf).

The same seed gives the same accounts, kinds and amounts in the same order; ids of events and times
are new.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Final

from ulid import ULID

from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, WITHDRAWN
from pipeline.model.events import Event, new_event
from pipeline.model.projection import Document

SEED: Final = 20_240_607
OPENING: Final = 1_000_000
"""Minor units in a new account: enough for all that is ever withdrawn from it."""


def deposit(account: str, version: int) -> Event:
    """A deposit of one minor unit, as a command with a key stores it."""
    event = new_event(account, version, DEPOSITED, {"money": 1}, correlation_id="bench")
    event["idempotency_key"], event["request"] = str(ULID()), "bench"
    return event


class Zipf:
    """Numbers below `count`; number k comes 1/(k + 1) times as often as number 0."""

    def __init__(self, count: int, chance: random.Random) -> None:
        self._numbers = range(count)
        self._weights = list(itertools.accumulate(1 / (k + 1) for k in self._numbers))
        self._chance = chance

    def take(self, count: int) -> list[int]:
        return self._chance.choices(self._numbers, cum_weights=self._weights, k=count)


class History:
    """The accounts of a bank and their events, each account's in order of version."""

    def __init__(self, accounts: int, seed: int = SEED) -> None:
        self._chance = random.Random(seed)
        self.accounts = [str(ULID.from_bytes(self._chance.randbytes(16))) for _ in range(accounts)]
        self.versions = dict.fromkeys(self.accounts, 0)
        self._zipf = Zipf(accounts, self._chance)

    def next(self, count: int) -> list[Event]:
        """The next events."""
        return [self._event(self.accounts[number]) for number in self._zipf.take(count)]

    def open(self, accounts: Iterable[str]) -> list[Event]:
        """The first events of accounts that have none yet."""
        return [self._event(each) for each in accounts]

    def _event(self, account: str) -> Event:
        version = self.versions[account] = self.versions[account] + 1
        if version == 1:
            return new_event(account, 1, CREATED, {"owner": "Ada", "money": OPENING})
        kind = self._chance.choice((DEPOSITED, WITHDRAWN))
        return new_event(account, version, kind, {"money": self._chance.randint(1, 9)})


class Folds:
    """The documents that events come to, batch by batch."""

    def __init__(self) -> None:
        self._known: dict[str, Document] = {}

    def batch(self, events: Sequence[Event]) -> list[Document]:
        """One document for each account among the events, as it is after them."""
        touched: dict[str, Document] = {}
        for event in events:
            account = event["account_id"]
            touched[account] = BALANCE.fold(touched.get(account, self._known.get(account)), event)
        self._known |= touched
        return list(touched.values())
