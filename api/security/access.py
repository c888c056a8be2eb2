"""Who may use a route, said beside its handler: some roles, or everybody. Unsaid, only operators.

    @routes.post("/withdraw")
    @allowed(TELLER, own="id")

`own` names what says whose account it is, a parameter of the path or a field of the body: with it,
customers may, too, on accounts of their own. What is about no account may name their role as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp.typedefs import Handler

from pipeline.operations.keys import Role

_KEPT: Final = "__access__"

TELLER, VIEWER, OPERATOR, CUSTOMER = Role.TELLER, Role.VIEWER, Role.OPERATOR, Role.CUSTOMER
READERS: Final = (TELLER, VIEWER, OPERATOR)
"""Whoever may look at any account."""
OBSERVERS: Final = (VIEWER, OPERATOR)
"""Whoever may look at the bank's own works."""


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """`roles` is None for everybody, who needs no key; `own` as above."""

    roles: frozenset[Role] | None
    own: str | None = None


_UNSAID: Final = RouteAccess(frozenset({OPERATOR}))

H = TypeVar("H", bound=Callable[..., Any])


def allowed(*roles: Role, own: str | None = None) -> Callable[[H], H]:
    """Lets in these roles; with `own` customers, too."""
    return _keep(RouteAccess(frozenset(roles) | ({CUSTOMER} if own else set()), own))


def open_to_all(handler: H) -> H:
    """Lets in everybody: for what tells nothing of anybody's account."""
    return _keep(RouteAccess(None))(handler)


def said(handler: Handler) -> bool:
    """Whether somebody said who may."""
    return hasattr(handler, _KEPT)


def access_of(handler: Handler) -> RouteAccess:
    """Who may use what this handles. Decorators that use `wraps` keep it."""
    access: RouteAccess = getattr(handler, _KEPT, _UNSAID)
    return access


def _keep(access: RouteAccess) -> Callable[[H], H]:
    def keep(handler: H) -> H:
        setattr(handler, _KEPT, access)
        return handler

    return keep
