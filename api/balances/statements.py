"""`GET /{id}/statement`: what happened to an account, with the balance after each entry."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.balances import queries
from api.balances.monotonic import MonotonicReads, version_of
from api.balances.projected import kept
from api.balances.queries import Cursor
from api.balances.routes import INDEX
from api.balances.statement_reader import EntryQuery, StatementReader
from api.http.inputs import (
    FROM_TEXT,
    OPTIONAL,
    Input,
    query,
)
from api.http.operations import json, operation
from api.http.replies import reply
from api.http.shapes import Page, paged, readable
from api.http.timestamps import Timestamp
from api.security.access import READERS, allowed
from api.security.customer_view import visible_entries
from pipeline.banking.events import KINDS, LONGEST_DESCRIPTION, LONGEST_REFERENCE
from pipeline.banking.statement import STATEMENT, Entry
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.text import Text

STATEMENTS: Final = web.AppKey("statements", StatementReader)
READS: Final = web.AppKey("statement_reads", MonotonicReads)
MOST: Final = 1000
_NEWEST: Final = EntryQuery()

routes = web.RouteTableDef()


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if not KINDS.issuperset(kinds):
        raise PydanticCustomError("kind", f"Must be some of {', '.join(sorted(KINDS))}")
    return kinds


def _newest_version(entries: Iterable[Mapping[str, Any]]) -> int:
    return max((version_of(each) or 0 for each in entries), default=0)


def _place(cursor: str) -> str | int:
    """A version, or a cursor as it is."""
    return int(cursor) if re.fullmatch("[0-9]{1,15}", cursor) else cursor


Kinds = Annotated[
    tuple[str, ...],
    BeforeValidator(_kinds),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": sorted(KINDS)}}),
]


class StatementQuery(Input):
    """The parameters of `GET /{id}/statement`; `until` is exclusive. By default newest first."""

    kind: Kinds = ()
    """Only entries of some of these kinds, with commas between them."""
    since: Timestamp | None = None
    """Entries of that time, and later ones."""
    until: Timestamp | None = None
    """Entries before that time."""
    reference: Annotated[str, Text(LONGEST_REFERENCE), OPTIONAL] = ""
    """Only entries with exactly this reference."""
    search: Annotated[str, Text(LONGEST_DESCRIPTION), OPTIONAL] = ""
    """Only entries whose description has all these words."""
    sort: Annotated[str, Field(pattern="^-?version$")] = "-version"
    """`-version` has the newest first."""
    limit: Annotated[int, Field(ge=1, le=MOST), FROM_TEXT] = 20
    """How many a page has at most."""
    starting_after: Cursor | None = None
    """`next` of the page before, or the `version` of its last entry."""


@routes.get(f"/{{id:{ACCOUNT_ID}}}/statement")
@allowed(*READERS, own="id")
@operation(
    json(Page[readable(Entry)]),  # type: ignore[misc]
    "account-not-found",
    "projection-not-found",
    "projection-unavailable",
    query=StatementQuery,
)
async def statement(request: web.Request) -> web.Response:
    """The account's entries, one for each event, with the balance after it."""
    account_id, asked = request.match_info["id"], query(request, StatementQuery)
    kept(request, STATEMENT.name)
    wanted = EntryQuery(
        asked.kind,
        asked.since,
        asked.until,
        None if asked.starting_after is None else _place(asked.starting_after),
        asked.sort == "-version",
        asked.limit,
        asked.reference,
        asked.search,
    )
    newest = wanted._replace(limit=_NEWEST.limit) == _NEWEST
    entries, after = await request.app[READS].get(
        partial(request.app[STATEMENTS].page, account_id, wanted),
        # Only the newest entries of all tell the version of the account.
        lambda found: {account_id: _newest_version(found[0])} if newest else {},
    )
    if not entries:
        # An unknown account is a 404, not an empty page.
        await queries.document(request.app[INDEX], account_id)
    return reply(paged(visible_entries(entries), after))
