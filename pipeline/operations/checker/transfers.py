"""Do transfers net to zero? The two legs of each are paired without keeping them in memory.

Both legs have the same fingerprint, of (transfer, from, to, money). `bucket_sums.py` adds those of
withdrawals and subtracts those of deposits. On a live store a transfer may be stored between the
reading of its two accounts; so legs in uneven buckets are collected in a second walk, and those
still without the other leg are looked up in both accounts.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.banking.events import WITHDRAWN
from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event
from pipeline.operations.checker.bodies import body_of, kind_of
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint

MOST_OPEN: Final = 50_000
"""Legs kept in memory in the second walk; with more, all of them are looked up."""


class Leg(NamedTuple):
    transfer: str
    payer: str
    payee: str
    money: int
    sign: int

    @property
    def fingerprint(self) -> int:
        return fingerprint(f"{self.transfer}|{self.payer}|{self.payee}|{self.money}")


def leg_of(event: Event) -> Leg | None:
    """The leg of a transfer that an event is, if it is one: sign 1 withdraws, -1 deposits."""
    body = body_of(event)
    transfer = body.get("transfer")
    if not isinstance(transfer, dict):
        return None
    name, there = transfer.get("id"), transfer.get("counterparty")
    if not isinstance(name, str) or not isinstance(there, str):
        return None
    here, money = event["account_id"], body.get("money", 0)
    if kind_of(event) == WITHDRAWN:
        return Leg(name, here, there, money, 1)
    return Leg(name, there, here, money, -1)


def legs_of(events: Iterable[Event]) -> Iterator[Leg]:
    return (leg for event in events if (leg := leg_of(event)) is not None)


@dataclass(slots=True)
class Pairing:
    """The sums of one walk, and how many transfers it saw."""

    transfers: int = 0
    sums: Sums = field(default_factory=Sums)

    def add(self, event: Event) -> None:
        leg = leg_of(event)
        if leg is not None:
            self.transfers += leg.sign > 0
            self.sums.add(leg.fingerprint, leg.sign)

    async def alone(self, store: EventStore) -> AsyncIterator[Leg]:
        """Each leg whose other leg is not stored."""
        uneven = self.sums.uneven()
        if not uneven:
            return
        open_legs: dict[int, tuple[Leg, int]] = {}
        async for events in store.replay(range(SLOTS)):
            for leg in legs_of(events):
                mark = leg.fingerprint
                if mark % BUCKETS in uneven:
                    net = open_legs.pop(mark, (leg, 0))[1] + leg.sign
                    if net:
                        open_legs[mark] = leg, net
            if len(open_legs) > MOST_OPEN:
                async for leg in _unmatched(store, open_legs):
                    yield leg
                open_legs.clear()
        async for leg in _unmatched(store, open_legs):
            yield leg


async def _unmatched(store: EventStore, legs: dict[int, tuple[Leg, int]]) -> AsyncIterator[Leg]:
    for mark, (leg, _) in legs.items():
        accounts = await store.load_many({leg.payer, leg.payee})
        same = (
            found.sign
            for events in accounts.values()
            for found in legs_of(events)
            if found.fingerprint == mark
        )
        if sum(same):
            yield leg
