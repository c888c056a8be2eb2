"""Snapshots of aggregates, pure: what is stored of a state, and whether a stored one can be
trusted.

The checksum reveals damage, not malice: a forged state with a correct checksum is trusted until the
snapshot is written again.
"""

import logging
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from pipeline.model.aggregate import Aggregate, S
from pipeline.model.events import slot_of
from pipeline.model.personal import Subject, SubjectKey, ciphertext, decrypted
from pipeline.model.versioned import Versioned
from pipeline.support.first_warnings import FirstWarnings

log = logging.getLogger(__name__)

_unwritten, _unread = FirstWarnings(log), FirstWarnings(log)

EVERY: Final = 100
"""A snapshot is written about once in so many events of an aggregate."""

_HIDDEN: Final = ("state", "checksum")

_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NAIVE_UTC


def due(before: Versioned[Any], after: Versioned[Any]) -> bool:
    """Whether to write a snapshot between these two states."""
    return after.version // EVERY > before.version // EVERY


def snapshot_of(aggregate: Aggregate[Any, S], state: Versioned[S]) -> dict[str, Any] | None:
    """The snapshot of a state that has a version; None if what is stored would be another state, or
    if the aggregate's codec fails."""
    try:
        json = aggregate.to_json(state.state)
        comes_back = _comes_back(aggregate, json, state.state)
    except Exception:  # whatever a codec raises: the events are stored, and their command succeeds
        _unwritten.warn(aggregate, "No snapshot of %s %s", aggregate.name, state.id)
        return None
    if not comes_back:
        log.debug("No snapshot of %s %s: JSON changes its state", aggregate.name, state.id)
        return None
    snapshot = {
        "_id": state.id,
        "slot": slot_of(state.id),
        "version": state.version,
        "event_id": state.event_id,
        "until": state.until,
        "fold": _fold(aggregate),
        "state": json,
        **({"forgotten": state.forgotten} if state.forgotten else {}),
    }
    return {**snapshot, "checksum": _checksum(snapshot)}


def trusted(
    aggregate: Aggregate[Any, S], snapshot: Mapping[str, Any] | None
) -> Versioned[S] | None:
    """The state of a snapshot, if it is undamaged and of the present fold.

    The caller must still confirm it by the aggregate's event in the store (`histories.py`).
    """
    if snapshot is None:
        return None
    try:
        if snapshot["fold"] != _fold(aggregate):
            return None
        content = {name: value for name, value in snapshot.items() if name != "checksum"}
        if snapshot["checksum"] != _checksum(content):
            return None
        return Versioned(
            snapshot["_id"],
            aggregate.of_json(snapshot["state"]),
            version=snapshot["version"],
            event_id=snapshot["event_id"],
            until=snapshot["until"],
            forgotten=snapshot.get("forgotten", 0),
        )
    except Exception:  # damage may look like anything, and a codec may raise anything
        named = aggregate.name, snapshot.get("_id")
        _unread.warn(aggregate, "The snapshot of %s %s can't be read", *named)
        return None


def hidden(snapshot: Mapping[str, Any], key: SubjectKey) -> dict[str, Any]:
    """The snapshot as it is stored of an aggregate with personal fields: its state encrypted, and
    its checksum, by which a state could be guessed."""
    content = orjson.dumps({name: snapshot[name] for name in _HIDDEN})
    kept = {name: value for name, value in snapshot.items() if name not in _HIDDEN}
    return {
        **kept,
        "encrypted": {"since": key.since, "data": ciphertext(content, key.key, _place(snapshot))},
    }


def shown(snapshot: Mapping[str, Any] | None, subject: Subject | None) -> Mapping[str, Any] | None:
    """The snapshot before it was hidden, if it was; None if its key is gone, or if it is of before
    its subject was forgotten: also one that a process without encryption has stored late."""
    if snapshot is None:
        return None
    try:
        about = snapshot.get("encrypted")
        since = snapshot.get("forgotten", 0) if about is None else about["since"]
        if subject is not None and since < subject.since:
            return None
        if about is None:
            return snapshot
        if subject is None:
            return None
        content = decrypted(about["data"], subject.keys[about["since"]], _place(snapshot))
        kept = {name: value for name, value in snapshot.items() if name != "encrypted"}
        return {**kept, **orjson.loads(content)}
    except Exception:  # damage may look like anything
        return None


def _place(snapshot: Mapping[str, Any]) -> str:
    return f"snapshot/{snapshot['_id']}/{snapshot['version']}"


def _comes_back(aggregate: Aggregate[Any, S], json: Mapping[str, Any], state: S) -> bool:
    """Whether the state is the same after a snapshot: of a tuple JSON makes a list."""
    try:
        plain = orjson.loads(orjson.dumps(json))
    except TypeError:  # JSON does not have such values
        return False
    return bool(aggregate.of_json(plain) == state)


def _fold(aggregate: Aggregate[Any, Any]) -> str:
    """What the state depends on beside the events: the fold, and the schemas that it knows."""
    forms = " ".join(f"{kind}.{schema}" for kind, schema in aggregate.schemas.items())
    return f"{aggregate.version}-{_digest(forms.encode())}"


def _checksum(content: Mapping[str, Any]) -> str:
    return _digest(orjson.dumps(content, option=_CANONICAL))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
