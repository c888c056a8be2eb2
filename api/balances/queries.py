"""What readers ask of the projection: one document, or a page of them in order."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.inputs import AccountId, Input
from pipeline.index import Index

MOST: Final = 100

Document = dict[str, Any]
"""id, owner, balance, status, version, partition, event_id, updated_at."""

Sort = Literal["owner", "-owner", "balance", "-balance", "updated_at", "-updated_at", "id", "-id"]


class DocumentNotFound(Exception):
    """The projection holds no document of that account (yet)."""


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise PydanticCustomError("limit", f"Must be a whole number from 1 to {MOST}")
    return int(text)


class PageQuery(Input):
    """The parameters of `GET /`; a leading `-` in `sort` means descending."""

    owner: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    sort: Sort = "owner"
    limit: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=MOST)] = 20
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
