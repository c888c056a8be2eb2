"""Does each reversal take back a transfer, whole and once (invariant 18)?

Both legs of a transfer and of its reversal are in the histories of the same two accounts. So each
account is judged alone: those with a reversal are read a second time, to find what was reversed.
"""

from contextlib import aclosing
from dataclasses import dataclass, field

from pipeline.eventstore import EventStore
from pipeline.model.events import Event
from pipeline.operations.checker.bodies import body_of
from pipeline.operations.checker.report import Faults
from pipeline.operations.checker.transfers import Leg, leg_of


def reversed_by(event: Event) -> str:
    """The id of the transfer that the event, a leg of a reversal, takes back; empty if it is
    none."""
    transfer = body_of(event).get("transfer")
    reverses: object = transfer.get("reverses") if isinstance(transfer, dict) else None
    return reverses if isinstance(reverses, str) else ""


@dataclass(slots=True)
class CheckedReversals:
    """Reversals of all accounts; `faults` are those of the invariant."""

    legs: int = 0
    faults: Faults = field(default_factory=Faults)
    _of_account: dict[str, tuple[Leg, int]] = field(default_factory=dict)
    """Of the account that is read: the leg that takes back a transfer, and its version."""

    def enter(self, event: Event) -> None:
        """Note an event, if it is a leg of a reversal."""
        reverses, leg = reversed_by(event), leg_of(event)
        if not reverses or leg is None:
            return
        self.legs += 1
        if reverses in self._of_account:
            self.faults.add(f"account {event['account_id']}: {reverses} was reversed twice")
        self._of_account[reverses] = leg, event["version"]

    async def close(self, account_id: str, store: EventStore) -> None:
        """All events of the account were read: each transfer that is taken back must be there, with
        the same money the other way."""
        if not self._of_account:
            return
        async with aclosing(store.walk(account_id)) as lists:
            async for events in lists:
                for event in events:
                    self._match(event)
        for reverses, (leg, version) in self._of_account.items():
            what = f"account {account_id}, version {version}: {leg.transfer} reverses {reverses}"
            self.faults.add(f"{what}, which is no transfer before it of {leg.money} the other way")
        self._of_account.clear()

    def _match(self, event: Event) -> None:
        leg = leg_of(event)
        if leg is None or leg.transfer not in self._of_account or reversed_by(event):
            return
        back, version = self._of_account[leg.transfer]
        taken_back = (leg.payer, leg.payee, leg.money, leg.sign)
        same = taken_back == (back.payee, back.payer, back.money, -back.sign)
        if same and event["version"] < version:
            del self._of_account[leg.transfer]
