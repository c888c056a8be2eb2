"""The routes of the balance service that read documents."""

from typing import Final

from aiohttp import web

from api.balances import queries
from api.balances.waiting import WAITING
from api.inputs import ACCOUNT_ID, query
from api.replies import reply
from pipeline.index import Index

INDEX: Final = web.AppKey("index", Index)

routes = web.RouteTableDef()


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    documents, has_more = await queries.page(request.app[INDEX], query(request, queries.PageQuery))
    return reply({"data": documents, "has_more": has_more})


@routes.get(f"/{{id:{ACCOUNT_ID}}}")
async def document(request: web.Request) -> web.Response:
    """As it is; with `min_version` not before it has that version, or time is out."""
    account_id, asked = request.match_info["id"], query(request, queries.DocumentQuery)
    if asked.min_version is None:
        found, fresh = await queries.document(request.app[INDEX], account_id), True
    else:
        found, fresh = await request.app[WAITING].document(
            account_id, asked.min_version, asked.timeout
        )
    # A document that somebody wrote by hand may lack its version until it is repaired.
    headers = {"ETag": f'"{found["version"]}"'} if "version" in found else None
    return reply(found if fresh else {**found, "stale": True}, headers=headers)
