"""A projection, pure: how an account's events fold into the documents that people read.

The fold makes the document after each event of the document before it. A projection keeps the
account's last one alone (a view), or the one of every event (a list).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, Final, NamedTuple, TypedDict

from pipeline.model.aggregate import UnknownKind
from pipeline.model.events import Event
from pipeline.model.groups import Groups
from pipeline.model.names import BANK, Names
from pipeline.model.personal import is_encrypted, require_opened, withheld
from pipeline.model.plain import plain
from pipeline.model.upcasters import Unreadable, require_newest

ERA: Final = 1 << 40
"""A document's Elasticsearch `_version` is era * 2^40 + the account's version. The era is nearly
always 0. A repair of what was written by hand raises it, because only a higher `_version` wins."""


class Document(TypedDict):
    """The fields of every document: its own id, and `version` and `event_id` of its last event.

    The slot is the account's; it never changes, while a partition's number may.
    """

    id: str
    version: int
    slot: int
    event_id: str


_COMMON: Final[dict[str, Any]] = {
    "id": {"type": "keyword"},
    "version": {"type": "long"},
    "slot": {"type": "integer"},
    "event_id": {"type": "keyword"},
}
_OF_EVERY: Final[dict[str, Any]] = {"account_id": {"type": "keyword"}}
_TEXTS: Final = ("keyword", "text")
_PLAIN: Final[dict[str, Any]] = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}
_SAMPLES: Final[dict[str, Any]] = {
    "keyword": "-",
    "text": "-",
    "date": "1970-01-01T00:00:00.000000Z",
    "long": 0,
    "integer": 0,
    "boolean": False,
}
_TYPES: Final[dict[str, type]] = {
    "keyword": str,
    "text": str,
    "date": str,
    "long": int,
    "integer": int,
    "boolean": bool,
}


class Unfoldable(Exception):
    """An event that does not fit what came before it, or that is no event we know."""

    def __init__(self, event: Any, reason: str) -> None:
        super().__init__(f"event {event.get('_id')} of account {event.get('account_id')}: {reason}")
        self.event, self.reason = event, reason


class _MissingField(KeyError):
    """The body of an event lacks the field."""


class _Body(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise _MissingField(name)


class Advance(NamedTuple):
    """The result of folding events: the last document, how many were new, how many known; and, if
    it had to stop, the event behind a gap, or the one that can't be folded.

    `each`: the documents after each of the new events, if the projection keeps them all. `more`: it
    is part of a history, and more of it follows.
    """

    document: Document | None
    applied: int
    duplicates: int
    gap: Event | None = None
    poison: Unfoldable | None = None
    each: Sequence[Document] | None = None
    more: bool = False

    @property
    def account_id(self) -> str:
        """The account of the events; empty if there is neither a document nor a poison."""
        if self.document is not None:
            return account_of(self.document)
        return str(self.poison.event["account_id"]) if self.poison is not None else ""

    @property
    def documents(self) -> Sequence[Document]:
        """The documents to be written."""
        if self.each is not None:
            return self.each
        return () if self.document is None else (self.document,)


NOTHING: Final = Advance(None, 0, 0)


class Projection:
    """A fold with the shape of what it makes.

    `after(document, event)` returns the fields after an event, of the document before it (None: it
    is the account's first). For what it can't fold it raises `ValueError`, or any other exception:
    then the account is parked in this projection. `properties` are the mapping of these
    fields; those in `optional` may be null. Another `version` means another fold or mapping, and a
    rebuild. `every`: the document of each event is kept, with the id `{account}-{version}`.

    `without`: the kinds of aggregates that the projection is not about, all kinds of each: their
    events make no document here. It does not list the kinds that it wants instead, because then a
    worker would pass over an event of a kind that it does not know yet, and not park the account.

    `groups`: what readers see added up over the documents of several accounts. They change nothing
    of what is written, so they need no other `version`.

    `plain`: the texts that people look for and sort by. The document has the plain form of each
    (`plain.py`) in a field of its own, which readers use and nobody is shown.

    Personal fields (`personal.py`) are in the body, but with `every` they are `WITHHELD`.

    `names`: those of the application that keeps it; see `within`.
    """

    def __init__(
        self,
        name: str,
        after: Callable[[Any, Event], Mapping[str, Any]],
        properties: Mapping[str, Any],
        *,
        version: int = 1,
        every: bool = False,
        optional: Iterable[str] = (),
        without: Iterable[str] = (),
        groups: Iterable[Groups] = (),
        plain: Iterable[str] = (),
    ) -> None:
        self.name, self.version, self.every = name, version, every
        self.groups = tuple(groups)
        self.names = BANK
        self.plain: Mapping[str, str] = {each: f"{each}_plain" for each in plain}
        """The field with the plain form of a field."""
        shape = {**_COMMON, **(_OF_EVERY if every else {}), **properties}
        if wrong := [each for each in self.plain if shape.get(each, {}).get("type") not in _TEXTS]:
            raise ValueError(f"no text to have a plain form of: {', '.join(wrong)}")
        shape |= dict.fromkeys(self.plain.values(), _PLAIN)
        self.mapping: Mapping[str, Any] = {
            "dynamic": "strict",
            "_meta": {"projection": version},
            "properties": shape,
        }
        self.fields = frozenset(shape)
        self.sample: Mapping[str, Any] = {
            each: _SAMPLES.get(about.get("type")) for each, about in shape.items()
        }
        """A document that the mapping takes; it is never written."""
        self._after, self._optional = after, frozenset(optional)
        self._optional |= {bare for each, bare in self.plain.items() if each in self._optional}
        self._without = frozenset(without)
        for each in self.groups:
            each.require_fitting(shape, self._optional)
        self._types = {each: _TYPES.get(about["type"], object) for each, about in shape.items()}

    def __repr__(self) -> str:
        return f"Projection({self.name!r})"

    def within(self, names: Names) -> "Projection":
        """The same projection as another application keeps it, always the same object."""
        return self if names == self.names else _within(self, names)

    @property
    def alias(self) -> str:
        """The alias of the index that readers see."""
        return self.names.alias(self.name)

    def named(self, what: str) -> str:
        """The name of something that each projection has one of, such as a bucket."""
        return self.names.of(what, self.name)

    def account_id(self, document_id: str) -> str:
        """The account of a document, by the document's id alone."""
        return document_id.rpartition("-")[0] if self.every else document_id

    def before(self, account_id: str, version: int) -> str:
        """The id of the document that an event of that version follows."""
        return self.of(account_id, version - 1)

    def of(self, account_id: str, version: int) -> str:
        """The id of the document that has an event of that version."""
        return f"{account_id}-{version}" if self.every else account_id

    # ---------------------------------------------------------------- folding

    def about(self, events: Iterable[Event]) -> Iterable[Event]:
        """Those of the events that the projection is about."""
        if not self._without:
            return events
        return [each for each in events if str(each.get("kind")) not in self._without]

    def fold(self, document: Document | None, event: Event) -> Document:
        """The document after the event. Raises `Unfoldable`, also if it is not the next one."""
        version = event["version"]
        if version != (document["version"] + 1 if document else 1):
            raise Unfoldable(event, f"version {version} is not the next")
        try:
            _require_plain(event)
            if is_encrypted(event):
                event = self._readable(event)
            # Before the fold, which knows only the newest schema of each kind.
            require_newest(event)
            fields: dict[str, Any] = {**self._after(document, event)}
            fields["id"] = account_id = event["account_id"]
            if self.every:
                fields["id"], fields["account_id"] = f"{account_id}-{version}", account_id
            fields["version"], fields["slot"] = version, event["slot"]
            fields["event_id"] = event["_id"]
            for name, bare in self.plain.items():
                fields[bare] = None if fields[name] is None else plain(fields[name])
            return fields  # type: ignore[return-value]
        except Unreadable as error:
            raise Unfoldable(event, str(error)) from error
        except Exception as error:  # whatever the fold raises: it parks the account, not the others
            raise Unfoldable(event, self._reason(document, event, error)) from error

    def _reason(self, document: Document | None, event: Event, error: Exception) -> str:
        """Why it can't be folded, in words for people where the fold gave some."""
        if isinstance(error, UnknownKind) or type(error) is ValueError:
            return str(error)
        if isinstance(error, KeyError) and self._lacks_field(document, event):
            return f"{event.get('kind')} without the field {error}"
        return f"no {event.get('kind')}: {error!r}"

    def _lacks_field(self, document: Document | None, event: Event) -> bool:
        """Whether it is the body that has no such key, and no other mapping in the fold."""
        try:
            self._after(document, {**event, "body": _Body(event["body"])})
        except Exception as error:
            return isinstance(error, _MissingField)
        return False

    def _readable(self, event: Event) -> Event:
        """With its personal fields. Documents of the past are rewritten by nobody when their
        subject is forgotten: so a projection that keeps them never gets these fields."""
        if self.every:
            return withheld(event)
        require_opened(event)
        return event

    def advance(self, document: Document | None, events: Iterable[Event]) -> Advance:
        """Fold an account's events, in order of version; skip known ones, stop at a gap or poison.

        The version is the fence: events may come twice, overlap, or be missing.
        """
        known = document["version"] if document else 0
        applied = duplicates = 0
        each: list[Document] | None = [] if self.every else None
        gap: Event | None = None
        poison: Unfoldable | None = None
        for event in events:
            version = event["version"]
            if version <= known:
                duplicates += 1
                continue
            if version > known + 1:
                gap = event
                break
            try:
                document = self.fold(document, event)
            except Unfoldable as error:
                poison = error
                break
            if each is not None:
                each.append(document)
            known = version
            applied += 1
        return Advance(document, applied, duplicates, gap, poison, each)

    def replay(self, events: Iterable[Event], before: Advance = NOTHING) -> Advance:
        """Fold an account's history from the store, or its next part: a gap there is a poison."""
        if before.poison is not None:
            return before._replace(each=None if before.each is None else ())
        result = self.advance(before.document, self.about(events))
        if result.gap is None:
            return result
        hole = Unfoldable(result.gap, "the version before it is not in the store")
        return result._replace(gap=None, poison=hole)

    def fold_all(self, events: Iterable[Event]) -> Document | None:
        """The document of an account's whole history, in version order; raises `Unfoldable`."""
        document: Document | None = None
        for event in self.about(events):
            document = self.fold(document, event)
        return document

    # ---------------------------------------------------------------- checking what is stored

    def sound(self, version: int, source: Any) -> bool:
        """Whether a stored document is one that we wrote.

        Its fields and types are the mapping's, and its `_version` fits its version field.
        """
        return (
            isinstance(source, dict)
            and source.keys() == self.fields
            and all(self._typed(field, value) for field, value in source.items())
            and version % ERA == source["version"] > 0
        )

    def _typed(self, field: str, value: Any) -> bool:
        if value is None:
            return field in self._optional
        return type(value) is self._types[field] or self._types[field] is object


@cache
def _within(projection: Projection, names: Names) -> Projection:
    found = copy(projection)
    found.names = names
    return found


def _require_plain(event: Event) -> None:
    """Raise `TypeError` if id, version or slot are of types that a document can't have."""
    if not isinstance(event["_id"], str):
        raise TypeError(f"id {event['_id']!r}")
    if isinstance(event["version"], float) or isinstance(event["slot"], float):
        raise TypeError(f"version {event['version']!r} in slot {event['slot']!r}")


def account_of(document: Document) -> str:
    """The account that a document is of."""
    return str(document.get("account_id", document["id"]))
