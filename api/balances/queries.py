"""What readers ask of the projection: one document, or a page of them in order."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.inputs import AccountId, Input
from pipeline.index import Index

MOST: Final = 100
LONGEST_WAIT: Final = 30

Document = dict[str, Any]
"""id, owner, balance, status, version, slot, event_id, updated_at."""

Sort = Literal["owner", "-owner", "balance", "-balance", "updated_at", "-updated_at", "id", "-id"]


class DocumentNotFound(Exception):
    """The projection holds no document of that account (yet)."""


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise PydanticCustomError("limit", f"Must be a whole number from 1 to {MOST}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,6})?", text):
        raise PydanticCustomError(
            "seconds", f"Must be a number of seconds from 0 to {LONGEST_WAIT}"
        )
    return float(text)


def _version(text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise PydanticCustomError("version", "Must be a whole number from 1 on")
    return int(text)


Limit = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=MOST)]
"""How many a page has at most."""


class DocumentQuery(Input):
    """The parameters of `GET /{id}`: wait for a version of the account, for so many seconds."""

    min_version: Annotated[int, BeforeValidator(_version), Field(ge=1)] | None = None
    timeout: Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=LONGEST_WAIT)] = 5.0


class PageQuery(Input):
    """The parameters of `GET /`; a leading `-` in `sort` means descending."""

    owner: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    sort: Sort = "owner"
    limit: Limit = 20
    starting_after: AccountId | None = None


async def document(index: Index, account_id: str) -> Document:
    """The account's document; `DocumentNotFound`, `ProjectionUnavailable`."""
    found = await index.get(account_id)
    if found is None:
        raise DocumentNotFound(account_id)
    return found


async def page(index: Index, query: PageQuery) -> tuple[list[Document], bool]:
    """Up to `limit` documents in order, ties by id, and whether more follow.

    Raises `UnknownCursor` when `starting_after` has no document, and `ProjectionUnavailable`.
    """
    return await index.page(
        owner=query.owner,
        sort=query.sort.removeprefix("-"),
        descending=query.sort.startswith("-"),
        limit=query.limit,
        after=query.starting_after,
    )
