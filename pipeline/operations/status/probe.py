"""Probes of servers that may be down: an answer before a deadline, or the reason for none."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.coordination.leases import LeaseUnavailable
from pipeline.eventstore import StoreUnavailable
from pipeline.search import ProjectionUnavailable
from pipeline.support.auth_errors import refusal
from pipeline.support.retry import brief

log = logging.getLogger(__name__)

T = TypeVar("T")

_DOWN: Final = (
    TimeoutError,
    OSError,
    NatsError,
    StoreUnavailable,
    ProjectionUnavailable,
    LeaseUnavailable,
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The reason why a figure is not known; `silent`: the server that did not answer, if one did
    not."""

    why: str
    silent: str = ""


def why(answer: object) -> str | None:
    """The reason for an unknown answer; None for a known one."""
    return answer.why if isinstance(answer, Unknown) else None


def joined(*reasons: str | None) -> str | None:
    """The reasons, each once; None when there is none."""
    return "; ".join(dict.fromkeys(each for each in reasons if each)) or None


async def probe(server: str, question: Awaitable[T], until: float) -> T | Unknown:
    """The answer, or `Unknown` if there is none `until` that time of the event loop's clock."""
    try:
        async with asyncio.timeout_at(until):
            return await question
    except _DOWN as error:
        log.debug("%s: %s", server, brief(error))
        return Unknown(refusal(error) or f"{server} does not answer", server)
    except Exception as error:
        log.debug("%s", server, exc_info=True)
        return Unknown(f"{server}: {brief(error)}", server)
