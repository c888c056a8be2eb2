"""Models of the commands' bodies."""

import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from api.http.inputs import AccountId, Input
from pipeline.banking.money import MAX_MONEY

LONGEST_OWNER: Final = 200
LONGEST_REASON: Final = 500
LONGEST_REFERENCE: Final = 140
LONGEST_DESCRIPTION: Final = 500


def _presentable(owner: str) -> str:
    if not any(c.isprintable() and not c.isspace() for c in owner):
        raise PydanticCustomError("owner", "An owner must not be blank")
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in owner):
        raise PydanticCustomError("owner", "An owner must have no control characters")
    return owner


Owner = Annotated[str, Field(min_length=1, max_length=LONGEST_OWNER), AfterValidator(_presentable)]


def _words(text: str) -> str:
    """Until there is one type for all that people write: what an owner may be, and no other
    characters that reorder a line or can't be seen, in NFC."""
    text = unicodedata.normalize("NFC", text)
    if not any(c.isprintable() and not c.isspace() for c in text):
        raise PydanticCustomError("text", "A text must not be blank")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text):
        raise PydanticCustomError("text", "A text must have no control characters")
    return text


_WORDS: Final = AfterValidator(_words)
Money = Annotated[int, Field(gt=0, lt=MAX_MONEY)]


class Described(Input):
    """The client's own words, which the event keeps and the statement shows."""

    reference: Annotated[str, Field(min_length=1, max_length=LONGEST_REFERENCE), _WORDS] | None = (
        None
    )
    """The client's own reference, such as an invoice's number; the statement finds it."""
    description: (
        Annotated[str, Field(min_length=1, max_length=LONGEST_DESCRIPTION), _WORDS] | None
    ) = None
    """What it is for, in the client's own words; the statement searches them."""


class CreateInput(Described):
    """`POST /create`: who owns the account, and the minor units that it opens with."""

    owner: Owner
    """Some printable characters, none of them a control character."""
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


class AccountInput(Input):
    """`POST /unfreeze` and `POST /close`."""

    id: AccountId


class FreezeInput(AccountInput):
    """`POST /freeze`."""

    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    """Kept in the event."""


class OwnerInput(Input):
    """`PATCH /{id}`."""

    owner: Owner
    """Some printable characters, none of them a control character."""
