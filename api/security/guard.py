"""Requires a key with a role of the route, and enforces the key's rate limit.

It runs before every handler, so that no handler does anything for a client without access, not even
repeat the answer to an idempotency key.
"""

import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.inputs import body, received
from api.http.metrics import route_of
from api.http.operations import operation_of
from api.http.problems import Problem
from api.http.streams import end_stream
from api.security.access import CUSTOMER, RouteAccess, access_of
from api.security.audit import AuditTrail, actor_of, claimed
from api.security.keyring import Keyring
from api.security.limits import Limits
from api.security.open_reads import OpenReads
from pipeline.model.events import Actor
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings

_READING: Final = frozenset({"GET", "HEAD"})

_holder: ContextVar[Key] = ContextVar("holder")
_own: ContextVar[str] = ContextVar("own_account")


class Guard:
    """The middleware of a service with keys."""

    def __init__(self, settings: Settings, trail: AuditTrail) -> None:
        self.keyring, self._trail = Keyring(settings), trail
        self._reads = OpenReads(self.keyring)
        self._rate, self._limits = settings.keys_rate, Limits()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the keys inside the block, and end what a key that has ended opened."""
        async with self.keyring.followed(), self._reads.watched():
            yield

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Problem 401, 403, 429 or 503 instead of the handler's answer."""
        found = request.match_info
        access = access_of(found.handler)
        # An unknown route needs no key for its 404: all routes are public at /docs.
        if access.roles is None or found.http_exception is not None:
            return await handler(request)
        try:
            holder = self._identified(request, access.roles)
            reads = request.method in _READING
            if reads or not request.content.is_eof():
                async with self._reads.while_valid(holder):
                    await _admit(request, holder, access)
                    if reads:
                        return await handler(request)
            else:  # its body has come: nothing of it is waited for
                await _admit(request, holder, access)
        except Problem as problem:
            if problem.status in (401, 403):
                self._note_refusal(request, problem)
            if (begun := await end_stream(request)) is not None:
                return begun
            raise
        # A command that has begun is not cut off: its client would not know what became of it.
        return await handler(request)

    def _identified(self, request: web.Request, roles: Collection[Role]) -> Key:
        """Whose key came with the request. Raises problems 401, 403, 429 and 503."""
        holder = self.keyring.holder(request)
        self._limit(holder)
        _holder.set(holder)
        self._trail.used(holder)
        if holder.role not in roles:
            raise Problem(403, "not-allowed", f"This is not for a {holder.role}.")
        return holder

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
    """Receive what was asked, and check whether a customer may ask it; 403, problems of a body."""
    operation = operation_of(request.match_info.handler)
    assert operation is not None, "a test finds routes that are not described"
    if operation.body is not None and request.can_read_body:
        await received(request)
    if holder.role is CUSTOMER and access.own is not None:
        account_id = await _named(request, access.own, operation.body)
        # Before any lookup, so that the answer does not reveal whether the account exists.
        if account_id not in holder.accounts:
            raise Problem(403, "not-allowed", "This key does not reach that account.")
        # aiohttp runs each request in a context of its own, so this need not be reset.
        _own.set(account_id)


async def _named(request: web.Request, own: str, model: Any) -> str:
    """The value of the parameter or field `own`; the problems of an invalid body."""
    if own in request.match_info:
        return request.match_info[own]
    given: Any = await body(request, model)
    return str(getattr(given, own))
