"""The last hour by minute and kind, read from the changelog of the table `activity`.

Each reading continues where the last one ended. It is as approximate as the table (`activity.py`).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from pipeline.messaging import JetStream, StoredMessage, StreamState
from pipeline.messaging.changelog_subjects import key_in
from pipeline.messaging.stream_reader import messages
from pipeline.support.logs import moment

# Not in the module of the table, which imports Faust: readers start in two thirds of the time.
TABLE: Final = "activity"
MINUTES: Final = 60
_SECONDS: Final = 60

ByKind = dict[str, dict[str, int]]
"""For each kind the number of `events`, and their `money` in minor units."""


class _Count(NamedTuple):
    minute: int
    kind: str
    figure: str
    number: int


class ActivityReader:
    """Keeps what was read so far."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._cursor = 0
        self._known: tuple[str, int] | None = None

    async def read(self, js: JetStream, now: float | None = None) -> dict[str, ByKind]:
        """The last 60 minutes with the present one, by the RFC 3339 time of their beginning.

        All are empty if no worker ever ran. Raises the errors of NATS.
        """
        last = int(time.time() if now is None else now) // _SECONDS * _SECONDS
        first = last - (MINUTES - 1) * _SECONDS
        await self._refresh(js, await js.state(js.names.changelog(TABLE)), first)
        self._counts = {key: each for key, each in self._counts.items() if each.minute >= first}
        found: defaultdict[int, defaultdict[str, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )
        for each in self._counts.values():
            found[each.minute][each.kind][each.figure] += each.number
        return {
            moment(minute): _as_dict(found[minute]) for minute in range(first, last + 1, _SECONDS)
        }

    async def _refresh(self, js: JetStream, state: StreamState | None, first: int) -> None:
        reconnects = int(js.nc.stats["reconnects"])  # a restarted server may have lost some
        known = (state.created, reconnects) if state else None
        if known is None or known != self._known or (state and state.last < self._cursor):
            self._counts, self._cursor = {}, 0
        self._known = known
        if state is None or state.last == self._cursor:
            return
        begin: dict[str, Any] = {"seq": self._cursor + 1}
        if not self._cursor:
            begin = {"start_time": moment(first)}
        async for several in messages(js, js.names.changelog(TABLE), begin):
            for each in several:
                self._note(each)
            self._cursor = several[-1].sequence

    def _note(self, message: StoredMessage) -> None:
        count = _count(message)
        if count is None:
            self._counts.pop(message.subject, None)
        else:
            self._counts[message.subject] = count


def _count(message: StoredMessage) -> _Count | None:
    """None for a deletion, when the window has expired, and for invalid messages."""
    try:
        key, (began, _) = orjson.loads(key_in(message.subject))
        _, kind, figure = key.split(":")
        return _Count(int(began), kind, figure, int(orjson.loads(message.data)))
    except (ValueError, TypeError, AttributeError):
        return None


def _as_dict(kinds: Mapping[str, Counter[str]]) -> ByKind:
    return {
        kind: {"events": figures["events"], "money": figures["money"]}
        for kind, figures in sorted(kinds.items())
    }
