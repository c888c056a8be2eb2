"""`POST /commands/{command}`: hands a command of the operator's page to the account service, and
its answer back as it is.

The page may talk to the service that serves it and to no other. This service adds no right of its
own: with keys its routes let in the roles that the account service lets in, and that one is given
the caller's key and checks it again; without keys the same checks of host and origin guard these
routes as all others.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import web
from pydantic import ConfigDict, Field

from api.commands.errors import COMMAND_PROBLEMS
from api.commands.outcomes import REPLAY, REPLAYED_HEADER
from api.http import correlation
from api.http.headers import ETAG, IDEMPOTENCY_KEY, LOCATION, idempotency_key
from api.http.inputs import AccountId, Input, received
from api.http.operations import json, operation
from api.http.problems import Problem, unavailable
from api.security.access import TELLER, allowed
from pipeline.support import tracing
from pipeline.support.addresses import reachable, url
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=3)
"""Longer than an append may take to learn its outcome."""
_ANSWERED: Final = ("ETag", "Location", REPLAY, "Retry-After", "WWW-Authenticate")

_EXISTING: Final = ("account-not-found", "account-closed")
_OPEN: Final = (*_EXISTING, "account-frozen")
_ALWAYS: Final = ("account-unreadable", "store-unavailable", "accounts-unavailable")


class AnyCommand(Input):
    """The body of the account service's route of that name, which checks it."""

    model_config = ConfigDict(extra="allow")


class OfAccount(AnyCommand):
    """The same, about this account."""

    id: AccountId


class OfPayer(AnyCommand):
    """The same, about the account that pays."""

    source: AccountId = Field(alias="from")


class _Command(NamedTuple):
    """`own`: the field with the account for which a customer may send it, too."""

    body: type[AnyCommand]
    own: str | None
    problems: tuple[str, ...]


_COMMANDS: Final = {
    "create": _Command(AnyCommand, None, ("account-exists",)),
    "deposit": _Command(OfAccount, None, (*_OPEN, "balance-too-large")),
    "withdraw": _Command(OfAccount, "id", (*_OPEN, "insufficient-funds")),
    "transfer": _Command(
        OfPayer,
        "source",
        (*_OPEN, "insufficient-funds", "balance-too-large", "transfer-to-self", "payee-refused"),
    ),
    "hold": _Command(
        OfAccount, None, (*_OPEN, "insufficient-funds", "hold-too-long", "too-many-holds")
    ),
    "capture": _Command(OfAccount, None, (*_OPEN, "hold-not-found", "hold-too-small")),
    "void": _Command(OfAccount, None, (*_EXISTING, "hold-not-found")),
}


class CommandForwarder:
    """Sends commands to the account service."""

    def __init__(self, settings: Settings) -> None:
        own = url(reachable(settings.host), settings.accounts_port)
        self._url = settings.accounts_url or own
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def send(self, command: str, body: bytes, headers: dict[str, str]) -> web.Response:
        """The answer of the account service, whatever it is; problem 503 `accounts-unavailable`."""
        try:
            async with self._session().post(
                f"{self._url}/{command}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                shown = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    content_type=answer.content_type,
                    headers=shown,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise self._away(error, "can't be reached. Nothing was sent") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away(error, "gave no answer. The command may have been executed") from error

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._http

    def _away(self, error: Exception, what: str) -> Problem:
        log.warning("the account service at %s: %r", self._url, error)
        return unavailable(
            "accounts-unavailable", f"The account service {what}.", missing=["accounts"]
        )


FORWARDER: Final = web.AppKey("forwarder", CommandForwarder)


def routes() -> Iterator[web.RouteDef]:
    """One for each command, with the access that it has on the account service."""
    for name, command in _COMMANDS.items():
        yield web.post(f"/commands/{name}", _handler(name, command))


def _handler(name: str, command: _Command) -> Any:
    async def handler(request: web.Request) -> web.Response:
        content, headers = await received(request), _handed_on(request)
        return await request.app[FORWARDER].send(name, content, headers)

    handler.__name__ = f"command_{name}"
    return allowed(TELLER, own=command.own)(_described(name, command)(handler))


def _described(name: str, command: _Command) -> Any:
    opens = name == "create"
    headers = (ETAG, REPLAYED_HEADER, *((LOCATION,) if opens else ()))
    return operation(
        json(dict[str, Any], *headers, status=201 if opens else 200),
        *command.problems,
        *COMMAND_PROBLEMS,
        *_ALWAYS,
        body=command.body,
        headers=(IDEMPOTENCY_KEY,),
        about=f"Hand it to the account service as `POST /{name}`, and its answer back.\n\n"
        "For the page, which may talk to this service alone. Programs send commands to the account"
        " service itself.",
    )


def _handed_on(request: web.Request) -> dict[str, str]:
    """Who sends it, under which key, and what it is known by."""
    authorization = request.headers.get("Authorization", "")
    given = {
        # No key has other characters; without it the account service says what is wrong.
        "Authorization": authorization if authorization.isascii() else "",
        "Idempotency-Key": idempotency_key(request),
        "X-Correlation-ID": correlation.current(),
        "traceparent": tracing.traceparent(),
        "Content-Type": "application/json",
    }
    return {name: value for name, value in given.items() if value}
