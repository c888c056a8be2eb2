"""A model of the account service, as plain as can be: what it must answer, command by command."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.commands import Answer, Command

MAX_MONEY = 2**53


@dataclass(slots=True)
class Account:
    """What the model knows of one."""

    owner: str
    balance: int
    version: int = 1
    status: str = "open"
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def available(self) -> int:
        held: int = sum(each["money"] for each in self.holds.values())
        return self.balance - held

    def document(self, account_id: str) -> dict[str, Any]:
        return {
            "id": account_id,
            "owner": self.owner,
            "balance": self.balance,
            "available": self.available,
            "version": self.version,
            "status": self.status,
            "holds": list(self.holds.values()),
        }


class Refused(Exception):
    """`etag` is the version that the answer shows, if it does."""

    def __init__(self, status: int, problem: str, etag: str | None = None) -> None:
        super().__init__(status, problem, etag)


@dataclass(slots=True)
class Model:
    """Every account, and the first answer to what was done under each key."""

    accounts: dict[str, Account] = field(default_factory=dict)
    done: dict[str, tuple[Command, Answer]] = field(default_factory=dict)

    def judge(
        self, command: Command, key: str | None, versions: set[str] | None, answer: Answer
    ) -> None:
        """Check an answer in every part, and do what the command did. `versions`: those of
        `If-Match`, `{"*"}` for any."""
        if key in self.done:
            return self._again(command, self.done[str(key)], answer)
        assert not answer.replayed
        outcome = self._outcome(command, versions, answer)
        if isinstance(outcome, Refused):
            assert (answer.status, answer.problem, answer.etag) == outcome.args, answer
            return None
        account_id, account, more = outcome
        assert answer.status == (201 if command.path == "/create" else 200), answer
        assert answer.document == account.document(account_id) | more
        assert answer.etag == f'"{account.version}"'
        assert answer.location == (f"/{account_id}" if command.path == "/create" else None)
        if key is not None:
            self.done[key] = command, answer
        return None

    def _again(self, command: Command, before: tuple[Command, Answer], answer: Answer) -> None:
        if before[0] == command:
            assert answer.replayed
            assert answer.content == before[1].content
        else:
            assert (answer.status, answer.problem) == (422, "idempotency-key-reused")

    def _outcome(
        self, command: Command, versions: set[str] | None, answer: Answer
    ) -> tuple[str, Account, dict[str, Any]] | Refused:
        """Whom the answer must be about, how they are then, and what else it says."""
        try:
            return self._execute(command, versions, answer)
        except Refused as refusal:
            return refusal

    def _execute(
        self, command: Command, versions: set[str] | None, answer: Answer
    ) -> tuple[str, Account, dict[str, Any]]:
        body = command.body
        if command.path == "/create":
            if versions is not None:
                raise Refused(412, "version-mismatch")
            account_id = str(answer.document.get("id"))
            assert account_id not in self.accounts
            account = self.accounts[account_id] = Account(body["owner"], body["money"])
            return account_id, account, {}
        if command.path == "/transfer":
            return self._transfer(body, versions, answer)
        account_id = body.get("id") or command.path.removeprefix("/")
        account = self._found(account_id, versions)
        if command.path in ("/hold", "/capture", "/void"):
            more = self._of_hold(command, account, answer)
        else:
            more = {}
            self._apply(command, account)
        account.version += 1
        return account_id, account, more

    def _found(self, account_id: str, versions: set[str] | None) -> Account:
        account = self.accounts.get(account_id)
        if account is None:
            raise Refused(404, "account-not-found")
        if versions is not None and versions != {"*"} and str(account.version) not in versions:
            raise Refused(412, "version-mismatch", f'"{account.version}"')
        return account

    def _apply(self, command: Command, account: Account) -> None:
        body = command.body
        if account.status == "closed":
            raise Refused(409, "account-closed")
        if command.path == "/unfreeze":
            if account.status != "frozen":
                raise Refused(409, "account-not-frozen")
            account.status = "open"
            return
        if account.status == "frozen":
            raise Refused(409, "account-frozen")
        match command.path:
            case "/deposit":
                _receive(account, body["money"])
            case "/withdraw":
                _pay(account, body["money"])
            case "/freeze":
                account.status = "frozen"
            case "/close":
                if account.balance:
                    raise Refused(409, "account-not-empty")
                account.status = "closed"
            case _:
                account.owner = body["owner"]

    def _of_hold(self, command: Command, account: Account, answer: Answer) -> dict[str, Any]:
        body, path = command.body, command.path
        if account.status == "closed" or (account.status == "frozen" and path != "/void"):
            raise Refused(409, f"account-{account.status}")
        if path == "/hold":
            if account.available < body["money"]:
                raise Refused(422, "insufficient-funds")
            given = answer.document.get("hold", {})
            hold = {name: given.get(name) for name in ("id", "money", "expires_at")}
            assert hold == given
            assert hold["money"] == body["money"]
            assert hold["id"] not in account.holds
            account.holds[str(hold["id"])] = hold
            return {"hold": hold}
        if body["hold"] not in account.holds:
            raise Refused(404, "hold-not-found")
        held = account.holds[body["hold"]]["money"]
        money = body.get("money", held) if path == "/capture" else 0
        if money > held:
            raise Refused(422, "hold-too-small")
        del account.holds[body["hold"]]
        account.balance -= money
        paid = {"money": money} if path == "/capture" else {}
        return {"hold": {"id": body["hold"], "released": held - money, **paid}}

    def _transfer(
        self, body: Mapping[str, Any], versions: set[str] | None, answer: Answer
    ) -> tuple[str, Account, dict[str, Any]]:
        source, target, money = body["from"], body["to"], body["money"]
        if source == target:
            raise Refused(400, "transfer-to-self")
        payer = self._found(source, versions)
        self._open(payer)
        if payer.available < money:
            raise Refused(422, "insufficient-funds")
        payee = self._found(target, None)
        self._open(payee)
        _receive(payee, money)
        _pay(payer, money)
        payer.version += 1
        payee.version += 1
        transfer = answer.document.get("transfer", {})
        return source, payer, {"transfer": {"id": transfer.get("id"), "counterparty": target}}

    def _open(self, account: Account) -> None:
        if account.status != "open":
            raise Refused(409, f"account-{account.status}")


def _receive(account: Account, money: int) -> None:
    if account.balance + money >= MAX_MONEY:
        raise Refused(422, "balance-too-large")
    account.balance += money


def _pay(account: Account, money: int) -> None:
    if account.available < money:
        raise Refused(422, "insufficient-funds")
    account.balance -= money
