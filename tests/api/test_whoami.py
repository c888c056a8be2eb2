"""`GET /whoami`: what a key is, told to who bears it."""

from datetime import UTC, datetime, timedelta

from api.balances.app import create_app
from pipeline.operations.keys import Role
from pipeline.support.settings import Settings
from tests.keys import guarded, holder, on
from tests.services import NOBODY, serving


async def test_every_role_learns_what_it_is(settings: Settings) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    theirs = {role: frozenset([NOBODY] if role is Role.CUSTOMER else []) for role in Role}
    holders = {
        role: await holder(settings, role, accounts=theirs[role], expires=until) for role in Role
    }
    async with guarded(create_app(on(settings))) as client:
        for role, headers in holders.items():
            async with client.get("/whoami", headers=headers) as answer:
                assert answer.headers["Cache-Control"] == "no-store"
                assert await answer.json() == {
                    "keys": True,
                    "id": headers["Authorization"].split("_")[1],
                    "role": role,
                    "expires": until.isoformat(),
                    "accounts": list(theirs[role]),
                }


async def test_without_keys_nobody_is_anybody(settings: Settings) -> None:
    async with (
        serving(create_app(settings), ready=False) as client,
        client.get("/whoami") as answer,
    ):
        assert await answer.json() == {
            "keys": False,
            "id": None,
            "role": None,
            "expires": None,
            "accounts": [],
        }
