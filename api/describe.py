"""`python -m api.describe` prints a document of the services: `bank openapi`, `bank asyncapi`.

It connects to no server.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from api.accounts.app import create_app as accounts
from api.aggregates.app import create_app as aggregates
from api.balances.app import create_app as balances
from api.balances.asyncapi import STREAM_CONTRACT
from api.openapi.routes import CONTRACT
from pipeline.model.names import BANK
from pipeline.support.settings import Settings, SettingsError, load

_SERVICES: Final[Mapping[str, Callable[[Settings], web.Application]]] = {
    "accounts": accounts,
    "aggregates": aggregates,
    "balances": balances,
}


async def described(settings: Settings, what: str, service: str) -> Mapping[str, Any]:
    """The document; `what` is `openapi`, of that service, or `asyncapi`."""
    if service == "accounts" and settings.names != BANK:
        service = "aggregates"
    app = _SERVICES[service](settings)  # in an event loop, as services are made
    return app[STREAM_CONTRACT].document if what == "asyncapi" else app[CONTRACT].document


if __name__ == "__main__":
    try:
        made = asyncio.run(described(load(), *sys.argv[1:]))
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(f"{json.dumps(made, indent=2, ensure_ascii=False)}\n")
