"""Models of the commands' bodies."""

from typing import Annotated, Final

from pydantic import Field

from api.http.inputs import OPTIONAL, AccountId, Input
from pipeline.banking.events import LONGEST_DESCRIPTION, LONGEST_OWNER, LONGEST_REFERENCE
from pipeline.banking.money import MAX_MONEY
from pipeline.model.text import Text

LONGEST_REASON: Final = 500


Owner = Annotated[str, Text(LONGEST_OWNER)]
Reason = Annotated[str, Text(LONGEST_REASON), OPTIONAL]
Reference = Annotated[str, Text(LONGEST_REFERENCE), OPTIONAL]
Description = Annotated[str, Text(LONGEST_DESCRIPTION), OPTIONAL]
Money = Annotated[int, Field(gt=0, lt=MAX_MONEY)]


class Described(Input):
    """The client's own words, which the event keeps and the statement shows."""

    reference: Reference = ""
    """The client's own, such as an invoice's number; the statement finds it."""
    description: Description = ""
    """What it is for; the statement searches its words."""


class CreateInput(Described):
    """`POST /create`: who owns the account, and the minor units that it opens with."""

    owner: Owner
    """Not blank, without control characters; stored composed (NFC)."""
    money: Annotated[int, Field(ge=0, lt=MAX_MONEY)]
    """In minor units."""


class MoneyInput(Described):
    """`POST /deposit` and `POST /withdraw`."""

    id: AccountId
    money: Money
    """In minor units."""


class TransferInput(Described):
    """`POST /transfer`."""

    source: AccountId = Field(alias="from")
    target: AccountId = Field(alias="to")
    money: Money
    """In minor units."""


class ReasonInput(Input):
    """`POST /freeze`, `POST /unfreeze` and `POST /close`."""

    id: AccountId
    reason: Reason = ""
    """For the bank's own people: no customer sees it."""
    public_reason: Reason = ""
    """For the account's customer."""


class OwnerInput(Input):
    """`PATCH /{id}`."""

    owner: Owner
    """Not blank, without control characters; stored composed (NFC)."""
