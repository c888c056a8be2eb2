"""The routes of commands: each turns a request into a command and answers with the account."""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from aiohttp import web

from api.accounts.answers import answer, done_by
from api.accounts.bodies import (
    CaptureInput,
    CreateInput,
    Described,
    HoldInput,
    MoneyInput,
    OwnerInput,
    ReasonInput,
    ReverseInput,
    TransferInput,
    VoidInput,
)
from api.accounts.documentation import EXISTING, OPEN, commands
from api.accounts.hide_payee_errors import former_key, hide_payee_errors, scoped_key
from api.accounts.service import AccountService
from api.commands.outcomes import REPLAY, command
from api.http import correlation
from api.http.headers import LOCATION, if_match
from api.http.inputs import Input, body, fingerprint
from api.security.access import TELLER, allowed
from api.security.guard import actor
from pipeline.banking.account import Account
from pipeline.banking.commands import (
    Capture,
    Close,
    Deposit,
    Freeze,
    Hold,
    Unfreeze,
    UpdateOwner,
    Void,
    Withdraw,
)
from pipeline.commands import CommandContext, Done
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.ulids import new_ulid
from pipeline.support import tracing

SERVICE: Final = web.AppKey("account_service", AccountService)

T = TypeVar("T", bound=Input)

routes = web.RouteTableDef()


@routes.post("/create")
@allowed(TELLER)
@command
@commands(CreateInput, "account-exists", status=201, headers=(LOCATION,))
async def create(request: web.Request) -> web.Response:
    """Open an account, with money in it or none."""
    given, context = await _parsed(request, CreateInput)
    done = await request.app[SERVICE].create(given.owner, given.money, context)
    return _done(done, status=201, headers={"Location": f"/{done.after.id}"})


@routes.post("/deposit")
@allowed(TELLER)
@command
@commands(MoneyInput, *OPEN, "balance-too-large")
async def deposit(request: web.Request) -> web.Response:
    """Pay in."""
    given, context = await _parsed(request, MoneyInput)
    return _done(await request.app[SERVICE].execute(given.id, Deposit(given.money), context))


@routes.post("/withdraw")
@allowed(TELLER, own="id")
@command
@commands(MoneyInput, *OPEN, "insufficient-funds")
async def withdraw(request: web.Request) -> web.Response:
    """Pay out."""
    given, context = await _parsed(request, MoneyInput)
    return _done(await request.app[SERVICE].execute(given.id, Withdraw(given.money), context))


@routes.post("/transfer")
@allowed(TELLER, own="source")
@command
@commands(
    TransferInput,
    *OPEN,
    "insufficient-funds",
    "balance-too-large",
    "transfer-to-self",
    "payee-refused",
)
async def transfer(request: web.Request) -> web.Response:
    """Move money from one account to another, whole or not at all.

    Answers with the account that paid; the other one is not the sender's to see.
    """
    given, context = await _parsed(request, TransferInput)
    with hide_payee_errors(given.target) as hides:
        done = await request.app[SERVICE].transfer(
            given.source, given.target, given.money, context, hides_payee=hides
        )
    return _done(done)


@routes.post("/reverse")
@allowed(TELLER)
@command
@commands(
    ReverseInput,
    *OPEN,
    "insufficient-funds",
    "balance-too-large",
    "transfer-not-found",
    "transfer-not-reversible",
    "transfer-reversed",
)
async def reverse(request: web.Request) -> web.Response:
    """Move the money of a transfer back, all of it, once.

    Answers with the account that had paid, to which `If-Match` belongs, too.
    """
    given, context = await _parsed(request, ReverseInput)
    return _done(
        await request.app[SERVICE].reverse(given.id, given.version, given.transfer, context)
    )


@routes.post("/hold")
@allowed(TELLER)
@command
@commands(HoldInput, *OPEN, "insufficient-funds", "hold-too-long", "too-many-holds")
async def hold(request: web.Request) -> web.Response:
    """Reserve money for a time; it stays in the balance, and is not available."""
    given, context = await _parsed(request, HoldInput)
    now = datetime.now(UTC).replace(tzinfo=None)
    until = given.expires_at or now + timedelta(seconds=given.seconds or 0)
    wanted = Hold(new_ulid(), given.money, until, now)
    return _done(await request.app[SERVICE].execute(given.id, wanted, context))


@routes.post("/capture")
@allowed(TELLER)
@command
@commands(CaptureInput, *OPEN, "hold-not-found", "hold-too-small")
async def capture(request: web.Request) -> web.Response:
    """Pay out what is held, all of it or a part, which ends the hold."""
    given, context = await _parsed(request, CaptureInput)
    wanted = Capture(given.hold, given.money)
    return _done(await request.app[SERVICE].execute(given.id, wanted, context))


@routes.post("/void")
@allowed(TELLER)
@command
@commands(VoidInput, *EXISTING, "hold-not-found")
async def void(request: web.Request) -> web.Response:
    """Release what is held; of a frozen account, too."""
    given, context = await _parsed(request, VoidInput)
    return _done(await request.app[SERVICE].execute(given.id, Void(given.hold), context))


@routes.post("/freeze")
@allowed(TELLER)
@command
@commands(ReasonInput, *OPEN)
async def freeze(request: web.Request) -> web.Response:
    """Let nothing happen to an account until it is unfrozen."""
    return await _with_reasons(request, Freeze)


@routes.post("/unfreeze")
@allowed(TELLER)
@command
@commands(ReasonInput, *EXISTING, "account-not-frozen")
async def unfreeze(request: web.Request) -> web.Response:
    """Open a frozen account again."""
    return await _with_reasons(request, Unfreeze)


@routes.post("/close")
@allowed(TELLER)
@command
@commands(ReasonInput, *OPEN, "account-not-empty")
async def close(request: web.Request) -> web.Response:
    """End an account, which must be empty, for good."""
    return await _with_reasons(request, Close)


@routes.patch(f"/{{id:{ACCOUNT_ID}}}")
@allowed(TELLER)
@command
@commands(OwnerInput, *OPEN)
async def update_owner(request: web.Request) -> web.Response:
    """Give the account another owner."""
    given, context = await _parsed(request, OwnerInput)
    account_id = request.match_info["id"]
    return _done(await request.app[SERVICE].execute(account_id, UpdateOwner(given.owner), context))


async def _with_reasons(
    request: web.Request, command: type[Freeze] | type[Unfreeze] | type[Close]
) -> web.Response:
    given, context = await _parsed(request, ReasonInput)
    wanted = command(given.reason, given.public_reason)
    return _done(await request.app[SERVICE].execute(given.id, wanted, context))


async def _parsed(request: web.Request, model: type[T]) -> tuple[T, CommandContext]:
    """The checked body of a command, and its context."""
    key, condition = scoped_key(request), if_match(request)
    given = await body(request, model)
    request_id = fingerprint(request, given) if key is not None else ""
    words = given if isinstance(given, Described) else Described()
    return given, CommandContext(
        correlation.current(),
        key,
        request_id,
        condition,
        tracing.traceparent(),
        actor(),
        words.reference,
        words.description,
        former_key=former_key(key),
    )


def _done(
    done: Done[Account], *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """The response to a command, the same at each repetition."""
    more = done_by(done.events[-1])
    replayed = {REPLAY: "true"} if done.replayed else {}
    return answer(done.after, status=status, headers=replayed | (headers or {}), **more)
