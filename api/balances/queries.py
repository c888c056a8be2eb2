"""Queries on the projection: one document, or a page of documents in order."""

import re
from functools import partial
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.balances.balance_reader import BalanceReader
from api.balances.monotonic import MonotonicReads, version_of
from api.http.cursors import LONGEST
from api.http.inputs import Input
from api.http.shapes import readable
from pipeline.banking.balance import Balance
from pipeline.banking.events import LONGEST_OWNER
from pipeline.model.text import Text
from pipeline.search.reader import DocumentReader

MOST: Final = 100
LONGEST_WAIT: Final = 30

Document = dict[str, Any]
"""id, owner, balance, status, version, slot, event_id, updated_at."""

SHOWN: Final = readable(Balance, "Document")
STALE: Final = readable(Balance, "MaybeStale", stale=NotRequired[Literal[True]])
"""The schemas of a document, in a page and alone."""

Sort = Literal["owner", "-owner", "balance", "-balance", "updated_at", "-updated_at", "id", "-id"]


class DocumentNotFound(Exception):
    """The projection has no document of that account, or not yet."""


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


Limit = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_whole_number)]
"""How many a page has at most."""


Cursor = Annotated[str, Field(min_length=1, max_length=LONGEST)]
"""Where a page begins."""

Seconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT), BeforeValidator(_seconds)]
"""To wait at most."""


class DocumentQuery(Input):
    """The parameters of `GET /{id}`: wait for a version of the account, for so many seconds."""

    min_version: Annotated[int, Field(ge=1), BeforeValidator(_version)] | None = None
    """Wait until the document has this version of the account."""
    timeout: Seconds = 5.0
    """Seconds to wait at most; then it answers with what there is, and `stale`."""


class PageQuery(Input):
    """The parameters of `GET /`; a leading `-` in `sort` means descending."""

    owner: Annotated[str, Text(LONGEST_OWNER, blank=True)] | None = None
    """Only accounts of exactly this owner."""
    search: Annotated[str, Text(LONGEST_OWNER, blank=True)] | None = None
    """Only accounts whose owner's name has these words; of the last one the beginning will do. Or
    the id of an account."""
    sort: Sort = "owner"
    """A leading `-` means descending; ties are in order of id."""
    limit: Limit = 20
    """How many a page has at most."""
    starting_after: Cursor | None = None
    """`next` of the page before. Or the id of its last document: then the page begins where that
    account is now, and one that has moved since makes it repeat or skip others."""


async def document(index: DocumentReader, account_id: str) -> Document:
    """The account's document; `DocumentNotFound`, `ProjectionUnavailable`."""
    found = await index.get(account_id)
    if found is None:
        raise DocumentNotFound(account_id)
    return found


async def page(
    index: BalanceReader, reads: MonotonicReads, query: PageQuery
) -> tuple[list[Document], str | None]:
    """Up to `limit` documents in order, ties by id, and the cursor of the next page.

    Raises `UnknownCursor` when `starting_after` is none, and `ProjectionUnavailable`.
    """
    read = partial(
        index.page,
        owner=query.owner,
        search=query.search,
        sort=query.sort.removeprefix("-"),
        descending=query.sort.startswith("-"),
        limit=query.limit,
        after=query.starting_after,
    )
    return await reads.get(read, lambda found: {each["id"]: version_of(each) for each in found[0]})
