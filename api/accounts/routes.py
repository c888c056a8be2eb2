"""The routes of the account service: requests in, commands out, accounts as JSON."""

import unicodedata
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from api import correlation
from api.accounts.account import Account
from api.accounts.service import AccountService
from api.inputs import ACCOUNT_ID, AccountId, Input, body
from api.replies import reply
from pipeline.events import MAX_MONEY

SERVICE: Final = web.AppKey("account_service", AccountService)
LONGEST_OWNER: Final = 200

routes = web.RouteTableDef()


def _presentable(owner: str) -> str:
    if not any(c.isprintable() and not c.isspace() for c in owner):
        raise PydanticCustomError("owner", "An owner must not be blank")
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in owner):
        raise PydanticCustomError("owner", "An owner must have no control characters")
    return owner


Owner = Annotated[str, Field(min_length=1, max_length=LONGEST_OWNER), AfterValidator(_presentable)]
Money = Annotated[int, Field(gt=0, lt=MAX_MONEY)]


class CreateInput(Input):
    """`POST /create`: who owns the account, and the minor units that it opens with."""

    owner: Owner
    money: Annotated[int, Field(ge=0, lt=MAX_MONEY)]


class MoneyInput(Input):
    """`POST /deposit` and `POST /withdraw`."""

    id: AccountId
    money: Money


class TransferInput(Input):
    """`POST /transfer`."""

    source: AccountId = Field(alias="from")
    target: AccountId = Field(alias="to")
    money: Money


class OwnerInput(Input):
    """`PATCH /{id}`."""

    owner: Owner


@routes.post("/create")
async def create(request: web.Request) -> web.Response:
    given = await body(request, CreateInput)
    account = await request.app[SERVICE].create(
        given.owner, given.money, correlation_id=correlation.current()
    )
    return _answer(account, status=201, headers={"Location": f"/{account.id}"})


@routes.post("/deposit")
async def deposit(request: web.Request) -> web.Response:
    given = await body(request, MoneyInput)
    return _answer(
        await request.app[SERVICE].deposit(
            given.id, given.money, correlation_id=correlation.current()
        )
    )


@routes.post("/withdraw")
async def withdraw(request: web.Request) -> web.Response:
    given = await body(request, MoneyInput)
    return _answer(
        await request.app[SERVICE].withdraw(
            given.id, given.money, correlation_id=correlation.current()
        )
    )


@routes.post("/transfer")
async def transfer(request: web.Request) -> web.Response:
    """Answers with the account that paid; the other one is not the sender's to see."""
    given = await body(request, TransferInput)
    done = await request.app[SERVICE].transfer(
        given.source, given.target, given.money, correlation_id=correlation.current()
    )
    return _answer(done.source, transfer={"id": done.id, "counterparty": given.target})


@routes.patch(f"/{{id:{ACCOUNT_ID}}}")
async def update_owner(request: web.Request) -> web.Response:
    given = await body(request, OwnerInput)
    return _answer(
        await request.app[SERVICE].update_owner(
            request.match_info["id"], given.owner, correlation_id=correlation.current()
        )
    )


@routes.get(f"/{{id:{ACCOUNT_ID}}}")
async def get(request: web.Request) -> web.Response:
    return _answer(await request.app[SERVICE].get(request.match_info["id"]))


def _answer(
    account: Account, *, status: int = 200, headers: dict[str, str] | None = None, **more: Any
) -> web.Response:
    document = {
        "id": account.id,
        "owner": account.owner,
        "balance": account.balance,
        "version": account.version,
        "status": account.status,
        **more,
    }
    etag = {"ETag": f'"{account.version}"'}
    return reply(document, status=status, headers=etag | (headers or {}))
