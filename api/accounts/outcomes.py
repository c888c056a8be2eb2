"""Commands counted by kind and outcome, for `/metrics`."""

from collections import Counter
from collections.abc import Iterator
from functools import wraps
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from api.accounts.refusals import translate
from api.http.problems import problem_of
from pipeline.support.metrics import Metric, counter

ACCEPTED: Final = "accepted"
REPLAYED: Final = "replayed"
REPLAY: Final = "Idempotent-Replayed"
"""The header of the answer to a repeated command."""
FAILED: Final = "internal-error"


class Outcomes:
    """Commands counted by kind and outcome: `accepted`, `replayed` under their idempotency key, or
    the name of the problem answered."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, outcome: str) -> None:
        self._counts[kind, outcome] += 1

    def collect(self) -> Iterator[Metric]:
        family = counter(
            "bank_commands",
            "Commands by kind and outcome: accepted, replayed, or the problem that was answered",
            labels=["kind", "outcome"],
        )
        for labels, number in self._counts.items():
            family.add_metric(labels, number)
        yield family


OUTCOMES: Final = web.AppKey("outcomes", Outcomes)


def command(handler: Handler) -> Handler:
    """Counts the outcome of each command; its kind is the handler's name."""

    @wraps(handler)
    async def counted(request: web.Request) -> web.StreamResponse:
        kind, outcomes = handler.__name__, request.app[OUTCOMES]
        try:
            response = await handler(request)
        except Exception as error:
            problem = problem_of(error, translate)
            outcomes.note(kind, problem.name if problem else FAILED)
            raise
        outcomes.note(kind, REPLAYED if REPLAY in response.headers else ACCEPTED)
        return response

    return counted
