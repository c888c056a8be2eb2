"""What clients sent and what came back: the one witness that does not belong to the bank."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

LOST: Final = 0
"""The status of an attempt without an answer."""

_DONE: Final = frozenset({200, 201})
_AGAIN: Final = "/problems/too-many-conflicts"
_NOTHING_STORED: Final = frozenset({"/problems/store-unguarded", "/problems/store-refused"})


class Command(NamedTuple):
    """A request: what it is about, and how it is sent. `account` pays in a transfer to `to`."""

    kind: str
    method: str
    path: str
    body: dict[str, Any]
    account: str = ""
    to: str = ""


class Attempt(NamedTuple):
    """One time that a command was sent: when (seconds), to which replica, and the answer."""

    at: float
    replica: int
    status: int
    body: bytes
    etag: str | None

    @property
    def acknowledged(self) -> bool:
        return self.status in _DONE

    @property
    def refused(self) -> bool:
        """Whether the answer says for good that nothing was done."""
        return 400 <= self.status < 500 and self.document.get("type") != _AGAIN

    @property
    def harmless(self) -> bool:
        """Whether the answer says that this attempt stored nothing; a later one may."""
        return self.refused or (self.status == 503 and self.document.get("type") in _NOTHING_STORED)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the answer, {} if there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Sent:
    """A command under one key, however often it was sent. `reused`: the key was another one's."""

    key: str
    command: Command
    attempts: list[Attempt] = field(default_factory=list)
    reused: bool = False

    @property
    def answer(self) -> Attempt | None:
        """The first acknowledgement, if there is one."""
        return next((each for each in self.attempts if each.acknowledged), None)

    @property
    def told(self) -> bool:
        """Acknowledged, or refused at last, be it after a lost answer."""
        return self.answer is not None or bool(self.attempts and self.attempts[-1].refused)

    @property
    def rejected(self) -> bool:
        """Refused each time that it was sent: an attempt without an answer may yet be executed."""
        return bool(self.attempts) and all(each.harmless for each in self.attempts)

    @property
    def outcome(self) -> str:
        if self.answer is not None:
            return "acknowledged"
        return "rejected" if self.rejected else "unknown"


class Transferred(NamedTuple):
    """What an acknowledged transfer was told to be: as a reversal names it."""

    payer: str
    version: int
    id: str
    payee: str


class History:
    """All that was sent, in order of its first attempt, and by key."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.all: list[Sent] = []
        self.versions: dict[str, int] = {}
        """The highest version of each account that was acknowledged."""
        self.holds: dict[str, tuple[str, datetime]] = {}
        """The account of each hold that was acknowledged, and its time, in order."""
        self.ending: set[str] = set()
        """The holds that anybody was ever asked to end."""
        self.transfers: list[Transferred] = []

    def now(self) -> float:
        return time.monotonic() - self.began

    def begin(self, key: str, command: Command, *, reused: bool = False) -> Sent:
        sent = Sent(key, command, reused=reused)
        if (hold := command.body.get("hold")) is not None:
            self.ending.add(hold)
        self.all.append(sent)
        return sent

    def learn(self, attempt: Attempt) -> None:
        """Take note of the version that an acknowledgement tells."""
        document = attempt.document
        account, version = document.get("id"), document.get("version")
        if attempt.acknowledged and isinstance(account, str) and isinstance(version, int):
            self.versions[account] = max(version, self.versions.get(account, 0))
            self._learn_more(account, version, document)

    def _learn_more(self, account: str, version: int, document: dict[str, Any]) -> None:
        """The ids of what a later command may be about."""
        hold, transfer = document.get("hold", {}), document.get("transfer", {})
        if "expires_at" in hold:
            self.holds[hold["id"]] = account, datetime.fromisoformat(hold["expires_at"])
        if transfer and "reverses" not in transfer:
            made = Transferred(account, version, transfer["id"], transfer["counterparty"])
            self.transfers.append(made)

    def acknowledged(self) -> Iterator[tuple[Sent, Attempt]]:
        for sent in self.all:
            if not sent.reused and (answer := sent.answer) is not None:
                yield sent, answer

    def counts(self) -> dict[str, int]:
        """How many commands came to what, how many attempts there were, how many without answer."""
        outcomes = Counter(sent.outcome for sent in self.all)
        attempts = [each for sent in self.all for each in sent.attempts]
        return {
            "commands": len(self.all),
            **{name: outcomes[name] for name in ("acknowledged", "rejected", "unknown")},
            "attempts": len(attempts),
            "lost answers": sum(each.status == LOST for each in attempts),
            "accounts": len(self.versions),
        }

    def write(self, path: Path) -> None:
        """As JSON, a line for each command."""
        with path.open("w") as file:
            for sent in self.all:
                attempts = [
                    [round(a.at, 3), a.replica, a.status, a.body.decode(errors="replace"), a.etag]
                    for a in sent.attempts
                ]
                row = {"key": sent.key, **sent.command._asdict(), "attempts": attempts}
                file.write(json.dumps(row) + "\n")
