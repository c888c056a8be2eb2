"""`GET /whoami`: the key of a request. The operator's page offers what its role may do."""

from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from api.http.operations import json, operation
from api.http.replies import reply
from api.security.access import CUSTOMER, READERS, allowed
from api.security.guard import holder
from pipeline.operations.keys import Key, Role

routes = web.RouteTableDef()


class Who(TypedDict):
    """Whether keys are asked for, and the key: null, and no accounts, where they are not.

    `expires` is RFC 3339, null: never; `accounts` are a customer's.
    """

    keys: bool
    id: str | None
    role: Role | None
    expires: str | None
    accounts: list[str]


_ANYBODY: Final = Who(keys=False, id=None, role=None, expires=None, accounts=[])


@routes.get("/whoami")
@allowed(*READERS, CUSTOMER)
@operation(json(Who))
async def whoami(_: web.Request) -> web.Response:
    """Whose key the request bears: what it may do, and until when."""
    return reply(_who(holder()), headers={"Cache-Control": "no-store"})


def _who(key: Key | None) -> Who:
    if key is None:
        return _ANYBODY
    return Who(
        keys=True,
        id=key.id,
        role=key.role,
        expires=key.expires.isoformat() if key.expires else None,
        accounts=sorted(key.accounts),
    )
