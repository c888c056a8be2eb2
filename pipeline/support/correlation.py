"""The correlation id of a command, from its request to the documents that it changed.

A task that serves a request has the id in its context, and so does every line that it logs. Work
for many commands at once is detached from any request, and logs the ids of its events:

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
"""Names in log records and their JSON: the id of one request, or the ids of several commands."""

LONGEST: Final = 100
"""Characters of an id."""

_current: ContextVar[str | None] = ContextVar(FIELD, default=None)


def current() -> str | None:
    """The id of the request that this task serves, or None."""
    return _current.get()


def serve(correlation_id: str) -> None:
    """From now on this task, and those that it starts, serve the request of that id."""
    _current.set(correlation_id)


@contextmanager
def serving(correlation_id: str | None) -> Iterator[None]:
    """The body serves the request of that id."""
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)


def detached(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that serves no request, although a request starts it."""
    return asyncio.create_task(work, context=Context())


def about(events: Iterable[Any]) -> dict[str, list[str]]:
    """`extra` of a log line about events: their ids, each once. A poison event may have any."""
    ids = (each.get(FIELD) for each in events if isinstance(each, dict))
    return {FIELDS: list(dict.fromkeys(each[:LONGEST] for each in ids if isinstance(each, str)))}
