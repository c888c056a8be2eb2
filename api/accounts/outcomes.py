"""Commands counted by kind and outcome, for `/metrics`."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter

from api.accounts.refusals import translate
from api.http.problems import problem_of

ACCEPTED: Final = "accepted"
REPLAYED: Final = "replayed"
REPLAY: Final = "Idempotent-Replayed"
"""The header of the answer to a repeated command."""
FAILED: Final = "internal-error"


OUTCOMES: Final[web.AppKey[Callable[[str, str], Counter]]] = web.AppKey("outcomes")


def outcomes_counter(registry: CollectorRegistry) -> Callable[[str, str], Counter]:
    """Commands counted by kind and outcome: `accepted`, `replayed` under their idempotency key, or
    the name of the problem answered."""
    counter = Counter(
        "bank_commands",
        "Commands by kind and outcome: accepted, replayed, or the problem that was answered",
        ("kind", "outcome"),
        registry=registry,
    )
    return cache(counter.labels)


def command(handler: Handler) -> Handler:
    """Counts the outcome of each command; its kind is the handler's name."""

    @wraps(handler)
    async def counted(request: web.Request) -> web.StreamResponse:
        kind, outcomes = handler.__name__, request.app[OUTCOMES]
        try:
            response = await handler(request)
        except Exception as error:
            problem = problem_of(error, translate)
            outcomes(kind, problem.name if problem else FAILED).inc()
            raise
        outcomes(kind, REPLAYED if REPLAY in response.headers else ACCEPTED).inc()
        return response

    return counted
