"""Random commands of one client: what may be asked of a bank, and what must be refused."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from tests.torture.history import Command, History

_MOST_ACCOUNTS: Final = 400
_FEW: Final = 10
_MORE_THAN_ANYBODY_HAS: Final = 2**50
NOBODY: Final = "01JD0000000000000000000000"
_LONG: Final = 600
_VOIDED, _IN_PART = 0.3, 0.5
_AT_ITS_TIME: Final = 0.5
_LOOK: Final = timedelta(seconds=0.5)
"""A worker looks for deadlines every second: most holds expire about so long after their time."""
_RECENT_HOLDS: Final = 30
"""Of which one is ended: some seconds' worth, so that some are ended twice, or after their time."""
_RECENT_TRANSFERS: Final = 4
"""Of which one is reversed: so few that many are tried again, often at the same time."""
KNOWN: Final = "Known "
"""How a name begins that several accounts have; who is forgotten there may be known elsewhere."""
_KNOWN: Final = 0.4
_KNOWN_OWNERS: Final = 25
"""Who have several accounts each; all others are nobody else's namesakes."""


def void(account: str, hold: str) -> Command:
    return Command("void", "POST", "/void", {"id": account, "hold": hold}, account)


class Draws(Protocol):
    """Draws a client's commands."""

    def next(self) -> Command:
        """The next one."""

    def other(self, command: Command) -> Command | None:
        """Another command that is much like it, if there is one."""


class Commands:
    """Draws a client's next command; a few of the accounts are busy, most are quiet."""

    def __init__(self, chance: random.Random, history: History) -> None:
        self._chance, self._history = chance, history
        self._kinds: dict[Callable[[], Command], int] = {
            self._create: 6,
            self._deposit: 36,
            self._withdraw: 24,
            self._transfer: 20,
            self._rename: 6,
            self._life: 4,
            self._hold: 12,
            self._end_hold: 10,
            self._reverse: 6,
            self._too_much: 3,
            self._nobody: 1,
        }

    def next(self) -> Command:
        if len(self._history.versions) < _FEW:
            return self._create()
        make = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        return make()

    def other(self, command: Command) -> Command | None:
        """The same with a little more money."""
        if "money" not in command.body:
            return None
        return command._replace(body={**command.body, "money": command.body["money"] + 1})

    def _account(self) -> str:
        accounts = list(self._history.versions)
        return accounts[int(len(accounts) * self._chance.random() ** 3)]

    def _owner(self) -> str:
        if self._chance.random() < _KNOWN:
            return f"{KNOWN}{self._chance.randrange(_KNOWN_OWNERS)}"
        return f"Owner {self._chance.getrandbits(60):015x}"

    def _create(self) -> Command:
        if len(self._history.versions) >= _MOST_ACCOUNTS:
            return self._deposit()
        owner = self._owner()
        money = self._chance.choice((0, 0, self._chance.randrange(1, 500)))
        return Command("create", "POST", "/create", {"owner": owner, "money": money})

    def _deposit(self) -> Command:
        return self._simple("deposit", self._account(), self._chance.randint(1, 100))

    def _withdraw(self) -> Command:
        return self._simple("withdraw", self._account(), self._chance.randint(1, 120))

    def _too_much(self) -> Command:
        return self._simple("withdraw", self._account(), _MORE_THAN_ANYBODY_HAS)

    def _nobody(self) -> Command:
        return self._simple("deposit", NOBODY, 1)

    def _transfer(self) -> Command:
        payer, payee, money = self._account(), self._account(), self._chance.randint(1, 120)
        body = {"from": payer, "to": payee, "money": money}
        return Command("transfer", "POST", "/transfer", body, payer, payee)

    def _hold(self) -> Command:
        """Most are left to their time, which comes while faults go on."""
        account, money = self._account(), self._chance.randint(1, 80)
        seconds = self._chance.choice((1, 2, 3, 5, 8, _LONG))
        body = {"id": account, "money": money, "seconds": seconds}
        return Command("hold", "POST", "/hold", body, account)

    def _end_hold(self) -> Command:
        """Of a hold that may expire at this moment, or of any late one, which may have ended."""
        recent = list(self._history.holds.items())[-_RECENT_HOLDS:]
        if not recent:
            return self._hold()
        hold, (account, _) = self._chance.choice(recent)
        if self._chance.random() < _AT_ITS_TIME:
            then = datetime.now(UTC) - _LOOK
            hold, (account, _) = min(recent, key=lambda each: abs(each[1][1] - then))
        if self._chance.random() < _VOIDED:
            return void(account, hold)
        body: dict[str, Any] = {"id": account, "hold": hold}
        if self._chance.random() < _IN_PART:
            body["money"] = self._chance.randint(1, 80)
        return Command("capture", "POST", "/capture", body, account)

    def _reverse(self) -> Command:
        """Of one of the latest transfers: others may have reversed it, or be doing so now."""
        recent = self._history.transfers[-_RECENT_TRANSFERS:]
        if not recent:
            return self._transfer()
        payer, version, number, payee = self._chance.choice(recent)
        body = {"id": payer, "version": version, "transfer": number}
        return Command("reverse", "POST", "/reverse", body, payer, payee)

    def _rename(self) -> Command:
        account, owner = self._account(), self._owner()
        return Command("owner", "PATCH", f"/{account}", {"owner": owner}, account)

    def _life(self) -> Command:
        """Of the quietest accounts: a bank whose busy accounts are all shut would be idle."""
        quiet = list(self._history.versions)[-max(1, len(self._history.versions) // 10) :]
        kind = self._chance.choices(("freeze", "unfreeze", "close"), (4, 6, 1))[0]
        account = self._chance.choice(quiet)
        return Command(kind, "POST", f"/{kind}", {"id": account}, account)

    def _simple(self, kind: str, account: str, money: int) -> Command:
        return Command(kind, "POST", f"/{kind}", {"id": account, "money": money}, account)
