"""Probes of servers that may be down: an answer before a deadline, or the reason for none."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.coordination.leases import LeaseUnavailable
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStreamError
from pipeline.search import ProjectionUnavailable
from pipeline.support.auth_errors import refusal
from pipeline.support.retry import brief
from pipeline.support.server_answers import answered, silence, worded

log = logging.getLogger(__name__)

T = TypeVar("T")

_DOWN: Final = (
    TimeoutError,
    OSError,
    NatsError,
    JetStreamError,
    StoreUnavailable,
    ProjectionUnavailable,
    LeaseUnavailable,
)


_UNREACHABLE: Final = re.compile(
    r"refused|connect call failed|connection closed|reset by peer|unreachable|no route"
    r"|not known|name resolution|no servers available",
    re.IGNORECASE,
)
"""What drivers say where nobody listens; of a server that is late they tell a time-out."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The reason why a figure is not known; `server`: the one that gave no answer but an error, if
    that is the reason; `away`: nobody listens there."""

    why: str
    server: str = ""
    away: bool = field(default=False, compare=False)


def why(answer: object) -> str | None:
    """The reason for an unknown answer; None for a known one."""
    return answer.why if isinstance(answer, Unknown) else None


def joined(*reasons: str | None) -> str | None:
    """The reasons, each once; None when there is none."""
    return "; ".join(dict.fromkeys(each for each in reasons if each)) or None


async def probe(server: str, ask: Callable[[], Awaitable[T]], until: float) -> T | Unknown:
    """The answer, or `Unknown` if there is none `until` that time of the event loop's clock.

    The probe itself calls `ask`: if a caller made the coroutine, and the probe was cancelled before
    it ran, nobody would await that coroutine.
    """
    try:
        async with asyncio.timeout_at(until):
            return await ask()
    except _DOWN as error:
        log.debug("%s: %s", server, brief(error))
        away = answered(error) is None and bool(_UNREACHABLE.search(str(error)))
        return Unknown(refusal(error) or _worded(server, error), server, away)
    except Exception as error:
        log.debug("%s", server, exc_info=True)
        return Unknown(f"{server}: {brief(error)}", server)


def silent(answers: Iterable[object]) -> dict[str, Unknown]:
    """The servers that gave no answer but an error, each with the first one."""
    found = [each for each in answers if isinstance(each, Unknown) and each.server]
    return {each.server: each for each in reversed(found)}


def failed(answers: Iterable[object]) -> dict[str, str]:
    """The same, each with what it did."""
    return {server: each.why for server, each in silent(answers).items()}


def _worded(server: str, error: BaseException) -> str:
    """An error's text, or the plain words: a driver's text on silence is long and says no more."""
    return worded(server, error) if answered(error) else silence(server)
