"""Requires a key with a role of the route, and enforces the key's rate limit.

It runs before every handler, so that no handler does anything for a client without access, not even
repeat the answer to an idempotency key.
"""

import math
from contextvars import ContextVar
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.inputs import body
from api.http.metrics import route_of
from api.http.operations import operation_of
from api.http.problems import Problem
from api.security.access import CUSTOMER, RouteAccess, access_of
from api.security.audit import AuditTrail, actor_of, claimed
from api.security.keyring import Keyring
from api.security.limits import Limits
from pipeline.model.events import Actor
from pipeline.operations.keys import Key
from pipeline.support.settings import Settings

_holder: ContextVar[Key] = ContextVar("holder")
_own: ContextVar[str] = ContextVar("own_account")


class Guard:
    """The middleware of a service with keys."""

    def __init__(self, settings: Settings, trail: AuditTrail) -> None:
        self.keyring, self._trail = Keyring(settings), trail
        self._rate, self._limits = settings.keys_rate, Limits()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Problem 401, 403, 429 or 503 instead of the handler's answer."""
        found = request.match_info
        access = access_of(found.handler)
        # An unknown route needs no key for its 404: all routes are public at /docs.
        if access.roles is not None and found.http_exception is None:
            try:
                await self._let_in(request, access)
            except Problem as problem:
                if problem.status in (401, 403):
                    self._note_refusal(request, problem)
                raise
        return await handler(request)

    async def _let_in(self, request: web.Request, access: RouteAccess) -> None:
        holder = self.keyring.holder(request)
        self._limit(holder)
        _holder.set(holder)
        self._trail.used(holder)
        await _admit(request, holder, access)

    def _note_refusal(self, request: web.Request, problem: Problem) -> None:
        key = holder()
        actor = actor_of(key) if key else claimed(request)
        self._trail.refused(actor, f"{request.method} {route_of(request)}", problem.name)

    def _limit(self, holder: Key) -> None:
        rate = self._rate if holder.rate is None else holder.rate
        if seconds := self._limits.spend(holder.id, rate):
            raise Problem(
                429,
                "too-many-requests",
                f"Key {holder.id} may ask {rate:g} times a second.",
                headers={"Retry-After": str(math.ceil(seconds))},
            )


def holder() -> Key | None:
    """The key of the current request; None if no key was needed."""
    return _holder.get(None)


def actor() -> Actor | None:
    """Who sent the current request; None if the service asks nobody for a key."""
    key = holder()
    return {"key": key.id, "role": key.role.value} if key else None


def customers_account() -> str | None:
    """The customer's own account that the current request is about; None if no customer sent it."""
    return _own.get(None)


async def _admit(request: web.Request, holder: Key, access: RouteAccess) -> None:
    if holder.role not in (access.roles or ()):
        raise Problem(403, "not-allowed", f"This is not for a {holder.role}.")
    if holder.role is CUSTOMER and access.own is not None:
        account_id = await _named(request, access.own)
        # Before any lookup, so that the answer does not reveal whether the account exists.
        if account_id not in holder.accounts:
            raise Problem(403, "not-allowed", "This key does not reach that account.")
        # aiohttp runs each request in a context of its own, so this need not be reset.
        _own.set(account_id)


async def _named(request: web.Request, own: str) -> str:
    """The value of the parameter or field `own`; the problems of an invalid body."""
    if own in request.match_info:
        return request.match_info[own]
    operation = operation_of(request.match_info.handler)
    assert operation is not None, "a test finds routes that are not described"
    given: Any = await body(request, operation.body)
    return str(getattr(given, own))
