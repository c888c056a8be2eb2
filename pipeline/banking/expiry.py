"""The process that ends holds at their time: of each account it knows when its open holds expire,
and it asks the account to expire them then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.banking.commands import ExpireHold
from pipeline.banking.events import HELD, OF_HOLDS
from pipeline.banking.holds import moment
from pipeline.model.events import Event
from pipeline.model.process import Process, Reaction, Send


@dataclass(frozen=True, slots=True)
class Expiry:
    """The account, and when each of its holds expires (RFC 3339), by the hold's id."""

    account: str = ""
    times: Mapping[str, str] = field(default_factory=dict)


def react(state: Expiry, event: Event) -> Reaction[Expiry]:
    """A hold has begun, or ended."""
    body = event["body"]
    times = {name: at for name, at in state.times.items() if name != body["hold"]}
    if event["kind"] == HELD:
        times[body["hold"]] = body["expires_at"]
    return _waiting(event["account_id"], times)


def on_due(state: Expiry, due: datetime) -> Reaction[Expiry]:
    """The account refuses for a hold that has ended meanwhile: so none is asked for twice."""
    over = [name for name, at in state.times.items() if moment(at) <= due]
    left = {name: at for name, at in state.times.items() if name not in over}
    commands = [Send("account", state.account, ExpireHold(name, due)) for name in over]
    return _waiting(state.account, left, commands)


def _waiting(
    account: str, times: Mapping[str, str], commands: list[Send] | None = None
) -> Reaction[Expiry]:
    due = min(map(moment, times.values()), default=None)
    return Reaction(Expiry(account, times), commands or (), due)


EXPIRY: Final = Process[Expiry]("holds", initial=Expiry, react=react, on_due=on_due, kinds=OF_HOLDS)
