"""The correlation id: what a command is known by, from its request to the documents it changed.

A task that serves a request has the id as context, and so has every line that it logs. Who works
for many commands at once runs detached from any request, and says whose events it carried:

    if log.isEnabledFor(logging.DEBUG):
        log.debug("Carried %d events", len(events), extra=about(events))
"""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

T = TypeVar("T")

FIELD: Final = "correlation_id"
FIELDS: Final = "correlation_ids"
"""Of a log record, and of its JSON: the id of the one request, or of all commands it is about."""

LONGEST: Final = 100
"""Characters of an id."""

_current: ContextVar[str | None] = ContextVar(FIELD, default=None)


def current() -> str | None:
    """The id of the request that this task serves; None outside of one."""
    return _current.get()


def serve(correlation_id: str) -> None:
    """From here on this task, and those it starts, serve the request of that id."""
    _current.set(correlation_id)


@contextmanager
def serving(correlation_id: str | None) -> Iterator[None]:
    """What is within serves that request."""
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)


def detached(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for all, though one request happens to start it: it serves none."""
    return asyncio.create_task(work, context=Context())


def about(events: Iterable[Any]) -> dict[str, list[str]]:
    """`extra` of a log line about events: whose they are, each once. Poison may hold anything."""
    ids = (each.get(FIELD) for each in events if isinstance(each, dict))
    return {FIELDS: list(dict.fromkeys(each[:LONGEST] for each in ids if isinstance(each, str)))}
