"""The routes of the balance service that read documents."""

from typing import Final

from aiohttp import web

from api.balances import queries
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
    found = await queries.document(request.app[INDEX], request.match_info["id"])
    # A document that somebody wrote by hand may lack its version until it is repaired.
    headers = {"ETag": f'"{found["version"]}"'} if "version" in found else None
    return reply(found, headers=headers)
