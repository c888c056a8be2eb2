"""Claims: keys that one aggregate at a time may have, such as a tax number.

    OPENING = Joint("opening", (ACCOUNT, CLAIM), decide)

    def decide(command: Open, account: Account, claim: Claim) -> Iterator[Sequence[Decision]]:
        yield open_account(command, account)
        yield CLAIM.decide(Take(command.account_id), claim)

    await service.execute_together(OPENING, (account_id, claim_id(tax_number)), command, context)

A claim is an aggregate whose id is made of the key. So the unique index on versions, which guards
every aggregate, guards the key too: of two commands that take it at the same time one is decided
again, and refused. A command without claims pays nothing for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from pipeline.model.aggregate import Aggregate, Decision, Refused
from pipeline.model.events import Event

TAKEN: Final = "ClaimTaken"
GIVEN_BACK: Final = "ClaimGivenBack"

_PREFIX: Final = "claim-"


class KeyClaimed(Refused):
    """Somebody has the key already."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        """The id that took it."""


class KeyNotClaimed(Refused):
    """Who gives the key back does not have it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has the key: an aggregate's id, or nobody."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class Take:
    """Have the key from now on. Refused if anybody has it, `by` too."""

    by: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let others have the key."""

    by: str


def claim_id(key: str) -> str:
    """The id of the claim to a key, which is not stored itself. Let keys of different sorts begin
    differently: `tax-number/1234`."""
    return f"{_PREFIX}{blake2b(key.encode(), digest_size=20).hexdigest()}"


def is_reserved(aggregate_id: str, aggregate: Aggregate[Any, Any]) -> bool:
    """Whether the id is for claims alone, and the aggregate is none. A key can be guessed: with an
    event of another kind under its id nobody could take it any more."""
    return aggregate_id.startswith(_PREFIX) and aggregate is not CLAIM


def _decide(command: Take | GiveBack, claim: Claim) -> Sequence[Decision]:
    if isinstance(command, Take):
        if claim.by:
            raise KeyClaimed(claim.by)
        return [Decision(TAKEN, {"by": command.by})]
    if claim.by != command.by:
        raise KeyNotClaimed
    return [Decision(GIVEN_BACK, {"by": command.by})]


def _evolve(_: Claim, event: Event) -> Claim:
    return Claim(str(event["body"]["by"]) if event["kind"] == TAKEN else "")


CLAIM: Final = Aggregate[Take | GiveBack, Claim](
    "claim", initial=Claim, decide=_decide, evolve=_evolve, kinds=(TAKEN, GIVEN_BACK)
)
