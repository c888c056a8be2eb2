"""Snapshots of accounts, pure: what is stored of a state, and whether a stored one can be trusted.

The checksum reveals damage, not malice: a forged state with a correct checksum is trusted until the
snapshot is written again.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from api.accounts.account import FOLD, Account
from pipeline.banking.events import KINDS
from pipeline.model.events import slot_of
from pipeline.model.upcasters import newest

EVERY: Final = 100
"""A snapshot is written about once in so many events of an account."""

_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NAIVE_UTC


def due(before: Account, after: Account) -> bool:
    """Whether to write a snapshot between these two states."""
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
    """The state of a snapshot, if it is undamaged and of the present fold.

    The caller must still confirm it by the account's event in the store (`histories.py`).
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
    """What the state depends on beside the events: the fold, and the schemas that it knows."""
    forms = " ".join(f"{kind}.{newest(kind)}" for kind in sorted(KINDS))
    return f"{FOLD}-{_digest(forms.encode())}"


def _checksum(content: Mapping[str, Any]) -> str:
    return _digest(orjson.dumps(content, option=_CANONICAL))


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
