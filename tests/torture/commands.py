"""Random commands of one client: what may be asked of a bank, and what must be refused."""

import random
from collections.abc import Callable
from typing import Final, Protocol

from tests.torture.history import Command, History

_MOST_ACCOUNTS: Final = 400
_FEW: Final = 10
_MORE_THAN_ANYBODY_HAS: Final = 2**50
NOBODY: Final = "01JD0000000000000000000000"


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

    def _create(self) -> Command:
        if len(self._history.versions) >= _MOST_ACCOUNTS:
            return self._deposit()
        owner = self._name()
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

    def _rename(self) -> Command:
        account, owner = self._account(), self._name()
        return Command("owner", "PATCH", f"/{account}", {"owner": owner}, account)

    def _name(self) -> str:
        """No two alike: one that is forgotten must be nobody else's."""
        return f"Owner {self._chance.getrandbits(60):015x}"

    def _life(self) -> Command:
        """Of the quietest accounts: a bank whose busy accounts are all shut would be idle."""
        quiet = list(self._history.versions)[-max(1, len(self._history.versions) // 10) :]
        kind = self._chance.choices(("freeze", "unfreeze", "close"), (4, 6, 1))[0]
        account = self._chance.choice(quiet)
        return Command(kind, "POST", f"/{kind}", {"id": account}, account)

    def _simple(self, kind: str, account: str, money: int) -> Command:
        return Command(kind, "POST", f"/{kind}", {"id": account, "money": money}, account)
