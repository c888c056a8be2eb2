"""Opaque cursors: where a page ended, in the values that its list is sorted by.

They hold no present value of anything, so a page may follow although its last entry has moved.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

Value = str | int | None
LONGEST: Final = 6000
"""Characters of a cursor."""
_DIGEST: Final = 6
_INTEGERS: Final = range(-(2**63), 2**63)


class UnknownCursor(Exception):
    """It is no place in that list; the message says it to the client."""


def encode(listing: str, values: Sequence[Value]) -> str:
    """A cursor of that list in that order."""
    body = orjson.dumps([listing, *values])
    return base64.urlsafe_b64encode(_digest(body) + body).rstrip(b"=").decode()


def decode(text: str, listing: str, kinds: Sequence[type]) -> list[Value]:
    """The sort values in a cursor, each of its kind or null; raises `UnknownCursor`."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        body = raw[_DIGEST:]
        found = orjson.loads(body) if raw[:_DIGEST] == _digest(body) else None
    except ValueError:
        found = None
    if not isinstance(found, list) or found[:1] != [listing] or len(found) != len(kinds) + 1:
        raise UnknownCursor("Not a cursor of this list in this order")
    values: list[Value] = found[1:]
    if not all(map(_fits, values, kinds)):
        raise UnknownCursor("Not a cursor of this list in this order")
    return values


def _fits(value: Value, kind: type) -> bool:
    return value is None or (type(value) is kind and (kind is str or value in _INTEGERS))


def _digest(body: bytes) -> bytes:
    """Tells a cursor that was cut or changed from one of ours; it keeps nothing secret."""
    return hashlib.blake2s(body, digest_size=_DIGEST).digest()
