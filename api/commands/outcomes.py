"""Commands counted by kind and outcome, for `/metrics`."""

from contextvars import ContextVar
from functools import cache, wraps
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter

from api.http.operations import Header
from api.http.problems import TRANSLATE, problem_of
from pipeline.support.metrics import totals

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


class Outcomes:
    """Commands counted by kind and outcome: `accepted`, `replayed` under their idempotency key, or
    the name of the problem answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "bank_commands",
            "Commands by kind and outcome: accepted, replayed, or the problem that was answered",
            ("kind", "outcome"),
            registry=registry,
        )
        self._of = cache(self._counter.labels)

    def note(self, kind: str, outcome: str) -> None:
        self._of(kind, outcome).inc()

    def totals(self) -> dict[str, float]:
        """Of all kinds together, by outcome."""
        return totals(self._counter, "outcome")


OUTCOMES: Final = web.AppKey("outcomes", Outcomes)
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
            request.app[OUTCOMES].note(_kind.get(handler.__name__), outcome)

        try:
            response = await handler(request)
        except Exception as error:
            problem = problem_of(error, request.app[TRANSLATE])
            count(problem.name if problem else FAILED)
            raise
        count(REPLAYED if REPLAY in response.headers else ACCEPTED)
        return response

    return counted
