"""The checker's own arithmetic: accounts folded event by event, and totals over all of them.

It shares no line with the product's fold, so that one mistake can't hide in both.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.banking.events import (
    CAPTURED,
    CLOSED,
    CREATED,
    DEPOSITED,
    EXPIRED,
    FROZEN,
    HELD,
    OF_HOLDS,
    OWNER_FORGOTTEN,
    OWNER_UPDATED,
    UNFROZEN,
    VOIDED,
    WITHDRAWN,
)
from pipeline.banking.money import MAX_MONEY
from pipeline.model.chain import Chain, chained
from pipeline.model.events import Event
from pipeline.operations.checker.bodies import body_of, kind_of, known
from pipeline.operations.checker.history import ExpectedEvents
from pipeline.operations.checker.holds import CheckedHolds, OpenHolds
from pipeline.operations.checker.report import Faults
from pipeline.operations.checker.reversals import CheckedReversals
from pipeline.operations.checker.transfers import Pairing, leg_of

SIGNS: Final = {
    CREATED: 1,
    DEPOSITED: 1,
    WITHDRAWN: -1,
    OWNER_UPDATED: 0,
    FROZEN: 0,
    UNFROZEN: 0,
    CLOSED: 0,
    HELD: 0,
    CAPTURED: -1,
    VOIDED: 0,
    EXPIRED: 0,
    OWNER_FORGOTTEN: 0,
}
BECOMES: Final = {CREATED: "open", FROZEN: "frozen", UNFROZEN: "open", CLOSED: "closed"}
_LIVING: Final = ("open", "frozen")
NEEDED: Final = {CREATED: (), UNFROZEN: ("frozen",), VOIDED: _LIVING, EXPIRED: _LIVING}
"""The statuses that an account may have for an event of the kind; open for all others. It is
unknown where the start of a history is missing."""


@dataclass(slots=True)
class LedgerAccount:
    """An account after its events up to `version`."""

    id: str
    slot: int = -1
    version: int = 0
    balance: int = 0
    owner: str | None = None
    status: str = ""
    event_id: str = ""
    at: datetime | None = None
    chain: Chain = field(default_factory=Chain)
    holds: OpenHolds = field(default_factory=OpenHolds)

    def apply(self, event: Event) -> None:
        self.slot, self.version = event["slot"], event["version"]
        self.event_id, self.at = event["_id"], moment_of(event)
        if (kind := kind_of(event)) in (CREATED, OWNER_UPDATED):
            self.owner = body_of(event).get("owner", self.owner)
        if kind == OWNER_FORGOTTEN:
            self.owner = "[forgotten]"
        self.status = BECOMES.get(kind, self.status)
        self.balance += change(event)


def change(event: Event) -> int:
    """By how much an event changes the balance; 0 when it is malformed."""
    money = body_of(event).get("money", 0)
    return SIGNS.get(kind_of(event), 0) * money if sound_money(money) else 0


def moment_of(event: Event) -> datetime | None:
    """When it happened, naive UTC; None if that is no time."""
    given: object = event.get("created_at")
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def sound_money(money: Any) -> bool:
    return isinstance(money, int) and not isinstance(money, bool) and 0 <= money < MAX_MONEY


def folded(account_id: str, events: Iterable[Event], version: int | None = None) -> LedgerAccount:
    """The account after its events up to `version`, or all; duplicates count once."""
    account = LedgerAccount(account_id)
    for event in events:
        if event["version"] > account.version and (version is None or event["version"] <= version):
            account.apply(event)
    return account


@dataclass(slots=True)
class Ledger:
    """Totals over all events, and the faults of invariants 1, 2, 5, 16, 17 and 18."""

    expected: ExpectedEvents | None = None
    accounts: int = 0
    events: int = 0
    deposits: int = 0
    withdrawals: int = 0
    balances: int = 0
    lowest: int = MAX_MONEY
    pairing: Pairing = field(default_factory=Pairing)
    money: Faults = field(default_factory=Faults)
    versions: Faults = field(default_factory=Faults)
    below_zero: Faults = field(default_factory=Faults)
    chained: int = 0
    chain: Faults = field(default_factory=Faults)
    holds: CheckedHolds = field(default_factory=CheckedHolds)
    reversals: CheckedReversals = field(default_factory=CheckedReversals)

    async def walk(self, replay: AsyncIterator[list[Event]]) -> AsyncIterator[LedgerAccount]:
        """Enter every event, in (slot, account, version) order; yields each complete account."""
        account: LedgerAccount | None = None
        async for events in replay:
            for event in events:
                if account is None or event["account_id"] != account.id:
                    if account is not None:
                        yield self._closed(account)
                    account = LedgerAccount(event["account_id"])
                self.enter(account, event)
        if account is not None:
            yield self._closed(account)

    def enter(self, account: LedgerAccount, event: Event) -> None:
        """Count one event of an account and check it."""
        self.events += 1
        where = f"account {account.id}, version {event['version']}"
        if event["version"] != account.version + 1:
            self.versions.add(f"{where} follows version {account.version}")
        self._check(account, event, where)
        delta = change(event)
        self.deposits += max(delta, 0)
        self.withdrawals += max(-delta, 0)
        self.pairing.add(event)
        if self.expected is not None:
            self.expected.match(event)
        if event["version"] <= account.version:
            return  # a duplicate: counted in the totals, not in the balance
        account.apply(event)
        self.reversals.enter(event)
        if kind_of(event) in OF_HOLDS:
            self._follow(account, event, where)
        self.chained += chained(event)
        if wrong := account.chain.follow(event):
            self.chain.add(f"{where}: {wrong}")
        self.lowest = min(self.lowest, account.balance)
        if account.balance < account.holds.money:
            held = f" with {account.holds.money} held" if account.holds.money else ""
            self.below_zero.add(f"{where}: the balance is {account.balance}{held}")

    def _follow(self, account: LedgerAccount, event: Event, where: str) -> None:
        self.holds.holds += kind_of(event) == HELD
        if wrong := account.holds.follow(event):
            self.holds.faults.add(f"{where}: {wrong}")

    def _check(self, account: LedgerAccount, event: Event, where: str) -> None:
        kind = kind_of(event)
        money, needed = body_of(event).get("money"), NEEDED.get(kind, ("open",))
        if kind not in SIGNS:
            self.money.add(f"{where}: unknown kind {event.get('kind')!r}")
        elif not known(event):
            self.money.add(f"{where}: {kind} in the unknown schema {event.get('schema')!r}")
        elif (kind == CREATED) != (event["version"] == 1):
            self.money.add(f"{where}: {kind} can't be there")
        elif SIGNS[kind] and not sound_money(money):
            self.money.add(f"{where}: {money!r} is no amount of money")
        elif body_of(event).get("transfer") is not None and leg_of(event) is None:
            self.money.add(f"{where}: {body_of(event)['transfer']!r} is no transfer")
        elif kind == OWNER_FORGOTTEN:
            pass  # whatever the account's status
        elif event["version"] == account.version + 1 and account.status not in ("", *needed):
            self.money.add(f"{where}: {kind} while the account is {account.status}")
        elif kind == CLOSED and account.balance:
            self.money.add(f"{where}: closed with {account.balance} in it")

    def _closed(self, account: LedgerAccount) -> LedgerAccount:
        self.accounts += 1
        self.balances += account.balance
        self.holds.close(account.id, account.holds)
        return account
