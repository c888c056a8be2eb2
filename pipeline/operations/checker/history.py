"""Does the event store agree with what clients sent and were answered (invariants 3 and 8)?"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from pipeline.banking.events import (
    CAPTURED,
    CLOSED,
    CREATED,
    DEPOSITED,
    EXPIRED,
    FROZEN,
    HELD,
    OWNER_FORGOTTEN,
    OWNER_UPDATED,
    UNFROZEN,
    VOIDED,
    WITHDRAWN,
)
from pipeline.model.events import Event
from pipeline.model.personal import FORGOTTEN
from pipeline.operations.checker.bodies import body_of, kind_of
from pipeline.operations.checker.report import Faults
from pipeline.operations.checker.reversals import reversed_by
from pipeline.operations.checker.transfers import leg_of

Kind = Literal[
    "create",
    "deposit",
    "withdraw",
    "transfer",
    "owner",
    "freeze",
    "unfreeze",
    "close",
    "hold",
    "capture",
    "void",
    "reverse",
    "forget",
]

EVENT_KINDS: Final[dict[Kind, str]] = {
    "create": CREATED,
    "deposit": DEPOSITED,
    "withdraw": WITHDRAWN,
    "transfer": WITHDRAWN,
    "owner": OWNER_UPDATED,
    "freeze": FROZEN,
    "unfreeze": UNFROZEN,
    "close": CLOSED,
    "hold": HELD,
    "capture": CAPTURED,
    "void": VOIDED,
    "reverse": DEPOSITED,
    "forget": OWNER_FORGOTTEN,
}


class Command(NamedTuple):
    """A command as it was sent. A transfer goes from `account` to `to`; a reversal names the same
    two, and a command to a hold has the hold's id in `to`."""

    kind: Kind
    account: str = ""
    money: int = 0
    owner: str = ""
    to: str = ""


class Answer(NamedTuple):
    """The answer to a command: an HTTP status, 0 for none, and the account and version it named.

    `key`: the idempotency key that was sent; `body`: what else must be the same at a repetition.
    """

    command: Command
    status: int
    id: str = ""
    version: int = 0
    key: str = ""
    body: bytes = b""

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300

    @property
    def rejected(self) -> bool:
        return 400 <= self.status < 500


Effect = tuple[str, str, int, str, str]


def _wanted(command: Command, account: str) -> Effect:
    return EVENT_KINDS[command.kind], account, command.money, command.owner, command.to


def _effect(event: Event) -> Effect:
    body = body_of(event)
    leg = leg_of(event)
    to = (leg.payee if leg.sign > 0 else leg.payer) if leg else _ended_hold(event)
    money, owner = body.get("money", 0), body.get("owner", "")
    if not isinstance(money, int) or not isinstance(owner, str):  # no command asks for such
        money, owner = 0, repr((money, owner))
    return kind_of(event), event["account_id"], money, owner, to


def _ended_hold(event: Event) -> str:
    """The hold that a command to it ended; the id of a new one is not the client's."""
    hold: object = body_of(event).get("hold") if kind_of(event) in (CAPTURED, VOIDED) else ""
    return hold if isinstance(hold, str) else repr(hold)


def _unasked(event: Event) -> bool:
    """Whether no command is answered with this event: the second leg of a transfer or a reversal,
    which invariant 1 pairs with the first one, or the end of a hold by its time."""
    leg = leg_of(event)
    second = leg is not None and (leg.sign < 0) != bool(reversed_by(event))
    return second or kind_of(event) == EXPIRED


@dataclass(slots=True)
class ExpectedEvents:
    """The events that must be stored by a client's history; each is struck off when it is read.

    `alone`: no other command was ever sent to the store, so every event must be explained.
    """

    alone: bool = False
    acknowledged: int = 0
    rejected: int = 0
    unknown: int = 0
    repeated: int = 0
    faults: Faults = field(default_factory=Faults)
    key_faults: Faults = field(default_factory=Faults)
    _expected: dict[tuple[str, int], Answer] = field(default_factory=dict)
    _under_key: dict[str, Answer] = field(default_factory=dict)
    _opened: set[str] = field(default_factory=set)
    _forgotten: dict[str, int] = field(default_factory=dict)
    _possible: Counter[Effect] = field(default_factory=Counter)

    @property
    def keys(self) -> int:
        """How many keys were acknowledged."""
        return len(self._under_key)

    @classmethod
    def of(cls, history: Iterable[Answer], *, alone: bool = False) -> "ExpectedEvents":
        expected = cls(alone)
        for answer in history:
            expected._add(answer)
        return expected

    def _add(self, answer: Answer) -> None:
        command = answer.command
        if answer.rejected:
            self.rejected += 1
        elif not answer.acknowledged:
            self.unknown += 1
            self._possible[_wanted(command, command.account)] += 1
        elif (first := self._under_key.get(answer.key)) is None:
            self._expect(answer)
        elif answer == first:
            self.repeated += 1
        else:
            self.key_faults.add(f"key {answer.key}: answered {answer}, and before that {first}")

    def _expect(self, answer: Answer) -> None:
        self.acknowledged += 1
        if answer.key:
            self._under_key[answer.key] = answer
        place = answer.id, answer.version
        if place in self._expected:
            self.faults.add(f"account {place[0]}: version {place[1]} was given to two commands")
        self._expected[place] = answer
        if answer.command.kind == "create":
            self._opened.add(answer.id)
        if answer.command.kind == "forget":
            self._forgotten[answer.id] = max(answer.version, self._forgotten.get(answer.id, 0))

    def match(self, event: Event) -> None:
        """Strike off a stored event, or note that no acknowledged command explains it."""
        place = event["account_id"], event["version"]
        answer = self._expected.pop(place, None)
        self._match_key(event, answer)
        effect = _effect(event)
        if answer is not None:
            command = answer.command
            if effect[3] == FORGOTTEN and place[1] < self._forgotten.get(place[0], 0):
                command = command._replace(owner=FORGOTTEN)
            if effect != _wanted(command, place[0]):
                self.faults.add(f"account {place[0]}, version {place[1]}: {effect} for {command}")
        elif _unasked(event):
            return
        elif self.alone or place[0] in self._opened:
            self._explain(effect, place)

    def _match_key(self, event: Event, answer: Answer | None) -> None:
        key, expected = event.get("idempotency_key", ""), answer.key if answer else ""
        known = self._under_key.get(key) if isinstance(key, str) else None
        where = f"account {event['account_id']}, version {event['version']}"
        if answer and key != expected:
            self.key_faults.add(f"{where}: stored under key {key!r}, not {expected!r}")
        elif known and (known.id, known.version) != (event["account_id"], event["version"]):
            self.key_faults.add(f"{where}: a second effect of key {key}")

    def _explain(self, effect: Effect, place: tuple[str, int]) -> None:
        kind, _, money, owner, to = effect
        known = (kind, "", money, owner, to) if kind == CREATED else effect
        if self._possible[known] > 0:
            self._possible[known] -= 1
        else:
            self.faults.add(
                f"account {place[0]}, version {place[1]}: no acknowledged command did it"
            )

    def close(self) -> None:
        """Every event was read: an acknowledged event that is still expected is lost."""
        for (account, version), answer in self._expected.items():
            self.faults.add(
                f"account {account}, version {version}: lost, acknowledged for {answer.command}"
            )
        self._expected.clear()
