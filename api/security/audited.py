"""Routes whose requests the audit log has, declared beside the handler."""

import asyncio
from collections.abc import Callable
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.problems import TRANSLATE, Translate, problem_of
from api.security.audit import AUDIT, actor_of
from api.security.guard import holder
from pipeline.operations.audit import Action


def audited(action: Action) -> Callable[[Handler], Handler]:
    """Writes a line for each request to the handler: what it asked for, and the outcome."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def noted(request: web.Request) -> web.StreamResponse:
            outcome, place = "done", ""
            try:
                response = await handler(request)
                place = response.headers.get("Location", "")
                return response
            except BaseException as error:
                outcome = _outcome(error, request.app[TRANSLATE])
                raise
            finally:
                named = [*request.match_info.values(), *place.split("?")[0].split("/")[2:]]
                target = " ".join(dict.fromkeys(named))
                request.app[AUDIT].note(action, actor_of(holder()), target=target, outcome=outcome)

        return noted

    return decorate


def _outcome(error: BaseException, translate: Translate) -> str:
    """The name of the problem that is answered; `cancelled` if nobody waits for an answer."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    problem = problem_of(error, translate) if isinstance(error, Exception) else None
    return problem.name if problem else "internal-error"
