"""Models of the commands' bodies."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.account_events import MOST_VERSIONS
from api.http.inputs import OPTIONAL, AccountId, Input, LeftOut
from api.http.timestamps import TimestampInBody
from pipeline.banking.events import LONGEST_DESCRIPTION, LONGEST_OWNER, LONGEST_REFERENCE
from pipeline.banking.holds import LONGEST
from pipeline.banking.money import MAX_MONEY
from pipeline.model.text import Text

LONGEST_REASON: Final = 500


Owner = Annotated[str, Text(LONGEST_OWNER)]
Reason = Annotated[str, Text(LONGEST_REASON), OPTIONAL]
Reference = Annotated[str, Text(LONGEST_REFERENCE), OPTIONAL]
Description = Annotated[str, Text(LONGEST_DESCRIPTION), OPTIONAL]
Money = Annotated[int, Field(gt=0, lt=MAX_MONEY)]
Seconds = Annotated[int, Field(gt=0, le=int(LONGEST.total_seconds()))]


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


class HoldInput(Described):
    """`POST /hold`: with either `seconds` or `expires_at`."""

    id: AccountId
    money: Money
    """In minor units."""
    seconds: LeftOut[Seconds] = None
    """After which the hold expires."""
    expires_at: LeftOut[TimestampInBody] = None
    """When it expires: within 31 days from now."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.seconds is None) == (self.expires_at is None):
            raise PydanticCustomError("end", "Give either seconds or expires_at")
        return self


class CaptureInput(Described):
    """`POST /capture`."""

    id: AccountId
    hold: AccountId
    """The hold's id."""
    money: LeftOut[Money] = None
    """In minor units; by default all that is held. The rest is released."""


class VoidInput(Described):
    """`POST /void`."""

    id: AccountId
    hold: AccountId
    """The hold's id."""


class ReverseInput(Described):
    """`POST /reverse`: which event of the account that paid was the transfer, as the answer to it
    and the statement say."""

    id: AccountId
    """The account that paid."""
    version: Annotated[int, Field(ge=1, le=MOST_VERSIONS)]
    """Of the account, after it had paid."""
    transfer: AccountId
    """The transfer's id."""


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
