"""The roles that may use a route, declared beside its handler. By default only operators may.

    @routes.post("/withdraw")
    @allowed(TELLER, own="id")

`own` names the parameter of the path or the field of the body with the account's id: with it,
customers may use the route, too, for their own accounts. A route about no account may name the role
CUSTOMER.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp.typedefs import Handler

from pipeline.operations.followed_keys import OBSERVERS as OBSERVERS
from pipeline.operations.keys import Role

_KEPT: Final = "__access__"

TELLER, VIEWER, OPERATOR, CUSTOMER = Role.TELLER, Role.VIEWER, Role.OPERATOR, Role.CUSTOMER
READERS: Final = (TELLER, VIEWER, OPERATOR)
"""The roles that may read any account."""


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """`roles` is None if no key is needed; `own` as above."""

    roles: frozenset[Role] | None
    own: str | None = None


_UNSAID: Final = RouteAccess(frozenset({OPERATOR}))

H = TypeVar("H", bound=Callable[..., Any])


def allowed(*roles: Role, own: str | None = None) -> Callable[[H], H]:
    """Allows these roles; with `own` customers, too."""
    return _keep(RouteAccess(frozenset(roles) | ({CUSTOMER} if own else set()), own))


def open_to_all(handler: H) -> H:
    """Allows everybody: for routes that reveal nothing of an account."""
    return _keep(RouteAccess(None))(handler)


def said(handler: Handler) -> bool:
    """Whether the handler declares its access."""
    return hasattr(handler, _KEPT)


def access_of(handler: Handler) -> RouteAccess:
    """The access of a handler. Decorators that use `wraps` keep it."""
    access: RouteAccess = getattr(handler, _KEPT, _UNSAID)
    return access


def _keep(access: RouteAccess) -> Callable[[H], H]:
    def keep(handler: H) -> H:
        setattr(handler, _KEPT, access)
        return handler

    return keep
