"""Routes whose requests the audit log has, declared beside the handler."""

from collections.abc import Callable
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.problems import Problem
from api.security.audit import AUDIT, actor_of
from api.security.guard import holder
from pipeline.operations.audit import Action


def audited(action: Action) -> Callable[[Handler], Handler]:
    """Writes a line for each request to the handler: what it asked for, and the outcome."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def noted(request: web.Request) -> web.StreamResponse:
            outcome, place = "internal-error", ""
            try:
                response = await handler(request)
                outcome, place = "done", response.headers.get("Location", "")
                return response
            except Problem as problem:
                outcome = problem.name
                raise
            finally:
                named = [*request.match_info.values(), *place.split("?")[0].split("/")[2:]]
                target = " ".join(dict.fromkeys(named))
                request.app[AUDIT].note(action, actor_of(holder()), target=target, outcome=outcome)

        return noted

    return decorate
