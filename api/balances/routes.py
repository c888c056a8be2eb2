"""The routes that read documents."""

import time
from contextlib import suppress
from typing import Final

from aiohttp import web

from api.balances import queries
from api.balances.balance_reader import BalanceReader
from api.balances.monotonic import MonotonicReads, version_of
from api.balances.shared_searches import SharedSearches
from api.balances.waiting import WAITING
from api.http.headers import ETAG
from api.http.inputs import query
from api.http.operations import json, operation
from api.http.replies import reply
from api.http.shapes import Page, paged
from api.security.access import READERS, allowed
from api.security.customer_view import visible_account
from pipeline.model.events import ACCOUNT_ID

INDEX: Final = web.AppKey("index", BalanceReader)
READS: Final = web.AppKey("reads", MonotonicReads)
"""Those of `GET /{id}`."""
PAGES: Final = web.AppKey(
    "pages", SharedSearches[queries.PageQuery, tuple[list[queries.Document], str | None]]
)

routes = web.RouteTableDef()


@routes.get("/")
@allowed(*READERS)
@operation(json(Page[queries.SHOWN]), "projection-unavailable", query=queries.PageQuery)
async def page(request: web.Request) -> web.Response:
    """Accounts in pages, of one owner or of all. What is new shows within a second."""
    found, after = await request.app[PAGES].get(query(request, queries.PageQuery))
    return reply(paged(found, after))


@routes.get(f"/{{id:{ACCOUNT_ID}}}")
@allowed(*READERS, own="id")
@operation(
    json(queries.STALE, ETAG),
    "account-not-found",
    "projection-unavailable",
    query=queries.DocumentQuery,
)
async def document(request: web.Request) -> web.Response:
    """An account as the projection has it.

    With `min_version` not before it has that version, or time is out: then it is `stale`.
    """
    account_id, asked = request.match_info["id"], query(request, queries.DocumentQuery)

    end = time.monotonic() + asked.timeout

    async def read() -> tuple[queries.Document | None, bool]:
        with suppress(queries.DocumentNotFound):
            if asked.min_version is None:
                return await queries.document(request.app[INDEX], account_id), True
            left = max(0.0, end - time.monotonic())
            return await request.app[WAITING].document(account_id, asked.min_version, left)
        return None, False

    found, fresh = await request.app[READS].get(
        read, lambda answer: {account_id: version_of(answer[0])}
    )
    if found is None:
        raise queries.DocumentNotFound(account_id)
    shown = visible_account(found)
    # A document that was changed by hand may lack its version until it is repaired.
    headers = {"ETag": f'"{shown["version"]}"'} if "version" in shown else None
    return reply(shown if fresh else {**shown, "stale": True}, headers=headers)
