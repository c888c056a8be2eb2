"""Commands counted by kind and outcome, for `/metrics`."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter

from api.http.operations import Header
from api.http.problems import TRANSLATE, problem_of

ACCEPTED: Final = "accepted"
REPLAYED: Final = "replayed"
REPLAY: Final = "Idempotent-Replayed"
"""The header of the answer to a repeated command."""
REPLAYED_HEADER: Final = Header(
    REPLAY,
    "There if the command was executed before under its key; this is its answer again.",
    {"const": "true"},
)
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


_kind: ContextVar[str] = ContextVar("kind of command")


def note_kind(kind: str) -> None:
    """The kind under which the command of the current request is counted."""
    # aiohttp runs each request in a context of its own, so this need not be reset.
    _kind.set(kind)


def command(handler: Handler) -> Handler:
    """Counts the outcome of each command. Its kind is the handler's name unless one is noted."""

    @wraps(handler)
    async def counted(request: web.Request) -> web.StreamResponse:
        def count(outcome: str) -> None:
            request.app[OUTCOMES](_kind.get(handler.__name__), outcome).inc()

        try:
            response = await handler(request)
        except Exception as error:
            problem = problem_of(error, request.app[TRANSLATE])
            count(problem.name if problem else FAILED)
            raise
        count(REPLAYED if REPLAY in response.headers else ACCEPTED)
        return response

    return counted
