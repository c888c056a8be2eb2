"""JSON objects in a JetStream KV bucket, written by compare-and-set; `nats kv` shows them.

A bucket `b` is the stream `KV_b` with a message for each key, subject `$KV.b.{key}`. A message's
sequence is the key's revision. A deleted key leaves a tombstone.

nats-py's own `KeyValue` is not used for writing: its `create` refuses a key whose value is no JSON
object or whose tombstone the server made, and its `delete` with revision 0 deletes unconditionally.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, ClassVar, Final, Protocol, TypeVar

import orjson
from nats.errors import NoRespondersError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from pipeline.messaging import JetStream, StreamState, WrongLastSequence
from pipeline.messaging.news import News, announce, news_of

log = logging.getLogger(__name__)

_DELETED: Final = ("KV-Operation", "Nats-Marker-Reason")
_DELETE: Final = {"KV-Operation": "DEL"}
_AT_ONCE: Final = 16
_SPAN: Final = 32
"""The fewest sequences that one of the concurrent readers of a bucket gets."""
_ELECTION_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.05


class Overtaken(Exception):
    """The key is not at the revision that the writer expected: somebody else has written it."""


@dataclass(frozen=True, slots=True)
class KeyValueEntry:
    """A key and its value at one revision."""

    key: str
    revision: int
    value: dict[str, Any]


class Record(Protocol):
    """A dataclass as the value of a key. `revision` is the entry's own: 0 without an entry."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def revision(self) -> int: ...


R = TypeVar("R", bound=Record)


class Bucket:
    """A bucket of the application. The first write creates it; one that does not exist is empty."""

    def __init__(self, js: JetStream, what: str) -> None:
        self.js, self.name = js, js.names.bucket(what)
        self.stream = f"KV_{self.name}"
        self._prefix = f"$KV.{self.name}."

    def news(self) -> AbstractAsyncContextManager[News]:
        """The news of all keys, while the block runs."""
        return news_of(self.js, self.stream)

    async def ensure(self) -> None:
        """Create the bucket unless it exists."""
        await self.js.ensure_bucket(self.name)

    async def get(self, key: str) -> KeyValueEntry | None:
        """The key's present value. A value that is no JSON object counts as none."""
        # From the leader: with the entry of a replica that is behind, every compare-and-set fails.
        last = await self.js.last_message(self.stream, self._prefix + key)
        return _entry(key, last.sequence, last.headers, last.data) if last else None

    async def entries(self) -> dict[str, KeyValueEntry]:
        """All keys, each with its value."""
        latest, _ = await self.read()
        return _present(latest)

    async def put(self, key: str, value: dict[str, Any], *, expected: int | None = None) -> int:
        """Write; return the new revision.

        With `expected`, raise `Overtaken` unless the key is at that revision (0: it has no value).
        """
        if expected == 0:
            expected = await self._vacant(key)
        return await self._publish(key, orjson.dumps(value), {}, expected)

    async def write(self, key: str, record: R) -> R:
        """Write a record over the one of its revision; raises `Overtaken`. Returns the new one."""
        value = asdict(record)
        del value["revision"]
        revision = await self.put(key, value, expected=record.revision)
        return replace(record, revision=revision)

    async def change(
        self,
        key: str,
        read: Callable[[KeyValueEntry | None], R | None],
        change: Callable[[R | None], R | None],
    ) -> R | None:
        """Write what `change` makes of the record that `read` finds in the entry, and return it.

        It is called again if another process has written the key meanwhile. If it makes nothing
        else of the record, or None, nothing is written, and the one found is returned.
        """
        while True:
            entry = await self.get(key)
            known = read(entry)
            wanted = change(known)
            if wanted is None or wanted == known:
                return known
            with suppress(Overtaken):
                revision = entry.revision if entry else 0
                return await self.write(key, replace(wanted, revision=revision))

    async def remove(self, key: str) -> bool:
        """Delete the key, whoever else writes it meanwhile; False if it has no value."""
        while entry := await self.get(key):
            with suppress(Overtaken):
                await self.delete(key, expected=entry.revision)
                return True
        return False

    async def delete(self, key: str, *, expected: int | None = None) -> None:
        """Leave a tombstone. With `expected`, raise `Overtaken` unless it is at that revision."""
        await self._publish(key, b"", _DELETE, expected)

    async def read(self, after: int = 0) -> tuple[dict[str, KeyValueEntry | None], int]:
        """The keys written after this sequence, deleted ones as None, and the last sequence.

        Each message costs a request, so a whole bucket is read by several readers at once.
        """
        state = None if after else await self.js.state(self.stream)
        if state is not None:
            after = state.last
        pieces = await asyncio.gather(*(self._span(*span) for span in _spans(state)))
        # A key that was written again meanwhile has moved out of its span, to after `after`. So
        # this span is read last.
        rest, last = await self._span(after, inf)
        latest = {key: each for piece, _ in pieces for key, each in piece.items()}
        return latest | rest, last

    async def _span(self, after: int, to: float) -> tuple[dict[str, KeyValueEntry | None], int]:
        """The keys last written after `after` and up to `to`, and the last sequence read."""
        latest: dict[str, KeyValueEntry | None] = {}
        while message := await self._next(after):
            if (sequence := message.seq or 0) > to:
                break
            after = sequence
            key = str(message.subject).removeprefix(self._prefix)
            latest[key] = _entry(key, after, message.headers or {}, message.data or b"")
        return latest, after

    async def _next(self, after: int) -> RawStreamMsg | None:
        try:
            return await self.js.context.get_msg(
                self.stream, seq=after + 1, subject=f"{self._prefix}>", next=True
            )
        except NotFoundError:
            return None

    async def _vacant(self, key: str) -> int:
        """The sequence to expect of a key without a value: of its tombstone, or 0."""
        # The server compares with the last message of the subject, also if it is a tombstone.
        last = await self.js.last_message(self.stream, self._prefix + key)
        if last and _entry(key, last.sequence, last.headers, last.data):
            raise Overtaken(f"{self.name}/{key} exists")
        return last.sequence if last else 0

    async def _publish(
        self, key: str, data: bytes, headers: dict[str, str], expected: int | None
    ) -> int:
        subject, until = self._prefix + key, time.monotonic() + _ELECTION_SECONDS
        while True:
            try:
                revision = await self.js.publish(subject, data, headers, expected=expected)
                break
            except NoRespondersError:
                # There is no such bucket yet; or a cluster has made it, and the server that we are
                # connected to does not know its leader yet.
                if time.monotonic() > until:
                    raise
                await self.ensure()
                await asyncio.sleep(_LOOK_SECONDS)
            except WrongLastSequence as error:
                raise Overtaken(f"{self.name}/{key}: {error}") from error
        await announce(self.js, self.stream)
        return revision


class Mirror:
    """A process's copy of a bucket, brought up to date by polling.

    A watch may lose a message; polling compares with the stream's state each time, so it can't.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.entries: dict[str, KeyValueEntry] = {}
        self._bucket = bucket
        self._latest: dict[str, KeyValueEntry | None] = {}
        self._cursor = 0
        self._state: StreamState | None = None
        self._reconnects = 0

    async def refresh(self) -> frozenset[str]:
        """Read what is new; return the keys that changed since the last time, deleted ones too.

        One request if nothing is new. An error leaves the copy as it was.
        """
        state, reconnects = await self._bucket.js.state(self._bucket.stream), self._connections()
        # The state first: what is written after it is news of the next refresh.
        if (state, reconnects) == (self._state, self._reconnects):
            return frozenset()
        if reconnects == self._reconnects and self._continues(state):
            news, cursor = await self._bucket.read(self._cursor)
            latest = {**self._latest, **news}
        else:
            latest, cursor = await self._bucket.read()
        if state and len(latest) != state.messages:  # keys were purged, or written just now
            latest, cursor = await self._bucket.read()
        before, self.entries = self.entries, _present(latest)
        self._latest, self._cursor = latest, cursor
        self._state, self._reconnects = state, reconnects
        return frozenset(
            key
            for key in before.keys() | self.entries.keys()
            if before.get(key) != self.entries.get(key)
        )

    def _continues(self, state: StreamState | None) -> bool:
        """Whether it is the same stream as before, and has lost none of what was read."""
        known = self._state
        return bool(
            state and known and state.created == known.created and state.last >= self._cursor
        )

    def _connections(self) -> int:
        """How often the connection was lost: the bucket is read whole after each time.

        A server that restarted may have lost its last writes and got others in their place.
        """
        return int(self._bucket.js.nc.stats["reconnects"])


def _spans(state: StreamState | None) -> Iterator[tuple[int, int]]:
    """Parts of a stream for concurrent readers: from after one sequence up to another."""
    if state is not None and state.messages:
        step = max(_SPAN, -(-(state.last - state.first + 1) // _AT_ONCE))
        for after in range(state.first - 1, state.last, step):
            yield after, min(after + step, state.last)


def _entry(key: str, revision: int, headers: dict[str, str], data: bytes) -> KeyValueEntry | None:
    if any(name in headers for name in _DELETED):
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        return KeyValueEntry(key, revision, value)
    log.warning("KV: the value of %r is no JSON object, it is skipped", key)
    return None


def _present(latest: dict[str, KeyValueEntry | None]) -> dict[str, KeyValueEntry]:
    return {key: entry for key, entry in latest.items() if entry}
