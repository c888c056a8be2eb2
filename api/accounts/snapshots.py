"""Snapshots of accounts, pure: what is kept of a state, and whether what was kept can be trusted.

The checksum tells damage, not malice: who writes a state by hand and makes its checksum, too, is
trusted until the snapshot is written anew.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from api.accounts.account import FOLD, Account
from pipeline.model.events import KINDS, slot_of
from pipeline.model.upcasters import newest

EVERY: Final = 100
"""An account's snapshot is renewed about every so many events."""

_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NAIVE_UTC


def due(before: Account, after: Account) -> bool:
    """Whether to take one when the account comes from one state to the other."""
    return after.version // EVERY > before.version // EVERY


def snapshot_of(state: Account) -> dict[str, Any]:
    """The snapshot of a state that has a version."""
    snapshot = {
        "_id": state.id,
        "slot": slot_of(state.id),
        "version": state.version,
        "event_id": state.event_id,
        "until": state.until,
        "fold": _fold(),
        "state": {"owner": state.owner, "balance": state.balance, "status": state.status},
    }
    return {**snapshot, "checksum": _checksum(snapshot)}


def trusted(snapshot: Mapping[str, Any] | None) -> Account | None:
    """The state that was kept, if it is undamaged and of the present fold.

    Whether it is of the account's true history, only its event in the store can tell.
    """
    try:
        if snapshot is None or snapshot["fold"] != _fold():
            return None
        content = {name: value for name, value in snapshot.items() if name != "checksum"}
        if snapshot["checksum"] != _checksum(content):
            return None
        return Account(
            snapshot["_id"],
            **snapshot["state"],
            version=snapshot["version"],
            event_id=snapshot["event_id"],
            until=snapshot["until"],
        )
    except (KeyError, TypeError):
        return None


def _fold() -> str:
    """What the state depends on beside the events: the fold, and the forms of them it knows."""
    forms = " ".join(f"{kind}.{newest(kind)}" for kind in sorted(KINDS))
    return f"{FOLD}-{_digest(forms.encode())}"


def _checksum(content: Mapping[str, Any]) -> str:
    return _digest(orjson.dumps(content, option=_CANONICAL))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
