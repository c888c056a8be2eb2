"""Values that fit nowhere, and what everybody draws who sends them."""

import random
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import bson
from ulid import ULID

from pipeline.model.events import slot_of

JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**53,
    2**63 - 1,
    "",
    " ",
    "\x00",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "\u202egnp.exe\u2066",
    "\u200b\u3164",
    "\uffff",
    "e\u0301" * 200,
    "a" + "\u0301\u0323" * 5000,
    "é" * 300,
    "../../etc/passwd",
    "$ne",
    "{}",
    [],
    [[]],
    {},
    {"$gt": ""},
    {"a": {"b": [1, None]}},
)
STORED_JUNK: Final[tuple[Any, ...]] = (
    *JUNK,
    2.0,
    float("nan"),
    float("inf"),
    b"\x00\xff",
    datetime(1, 1, 1),
    datetime(9999, 12, 31),
    bson.Decimal128("2"),
    bson.Regex("a*"),
    bson.ObjectId(b"twelve bytes"),
    bson.Timestamp(1, 1),
    bson.MinKey(),
    [1, 2],
    "x" * 20_000,
)
"""What MongoDB holds beside that."""


class Draws:
    """Draws from a seed. `events` are of accounts that there are, to be aimed at, each of them
    applied long ago."""

    def __init__(self, seed: str, events: Sequence[Mapping[str, Any]]) -> None:
        self.chance = random.Random(f"hostile {type(self).__name__} {seed}")
        self.events = events
        self.accounts = sorted({event["account_id"] for event in events})

    def event(self, account_id: str, version: int) -> dict[str, Any]:
        return {
            "_id": self.ulid(),
            "slot": slot_of(account_id),
            "account_id": account_id,
            "version": version,
            "kind": self.chance.choice(("AccountCreated", "MoneyDeposited", "Unheard", "")),
            "body": {"owner": self.chance.choice(JUNK), "money": self.chance.choice(JUNK)},
            "schema": self.chance.choice((0, 1, 99)),
            "created_at": datetime(2026, 1, 31, 12),
            "correlation_id": self.text(10),
        }

    def ulid(self) -> str:
        return str(ULID.from_bytes(self.chance.randbytes(16)))

    def noise(self, longest: int) -> bytes:
        return self.chance.randbytes(self.chance.randrange(longest + 1))

    def text(self, longest: int) -> str:
        letters = string.ascii_letters + string.digits + " !#$&'()*+,/:;=?@[]{}\"<>|^`~"
        return "".join(self.chance.choices(letters, k=self.chance.randrange(1, longest + 1)))
