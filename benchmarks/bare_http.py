"""What the account service is compared with: a handler that reads and answers the same JSON."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from aiohttp import web

from pipeline.support.settings import load

ID: Final = "01J00000000000000000000000"
_known: dict[str, Any] = {"id": ID, "owner": "Owner 0.123456789", "status": "open"}


async def deposit(request: web.Request) -> web.Response:
    given = await request.json()
    balance = _known.get("balance", 0) + given["money"]
    _known.update(balance=balance, version=_known.get("version", 0) + 1, id=given["id"])
    return web.json_response(_known, headers={"ETag": f'"{_known["version"]}"'})


async def ready(_: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    """Listen where the account service would, until a signal."""
    settings = load()
    app = web.Application()
    app.add_routes([web.post("/deposit", deposit), web.get("/readyz", ready)])
    # On uvloop where that is, as the roles: what the loops differ by is no cost of the service.
    loop = import_module("uvloop").new_event_loop() if find_spec("uvloop") else None
    host, port = settings.host, settings.metrics_port
    web.run_app(app, host=host, port=port, loop=loop, print=None, access_log=None)


if __name__ == "__main__":
    main()
