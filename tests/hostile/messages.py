"""Messages for the stream and for the buckets.

None is an order: a sound request in a bucket has said what is wanted.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from pipeline.operations.audit import ACTIONS
from tests.hostile.junk import JUNK, Draws

SUBJECTS: Final = ("0", "3", "7", "999", "token", "partitions", "markers", "x", "-1", "０")
BUCKETS: Final = {
    "partitions": (("0", "3", "7", "x"), ("epoch", "owner")),
    "parked": (("{id}", "x"), ("account_id", "version", "reason", "retry", "since")),
    "rebuild": (
        ("current", "job.{id}", "part.{id}.0"),
        ("id", "kind", "phase", "partitions", "of", "generation", "uuid"),
    ),
    "bank": (("repartition", "x"), ("id", "to", "patience", "state", "since")),
    "keys": (("0123456789abcdef", "x"), ("digest", "role", "accounts", "created", "rate")),
    "key-uses": (("0123456789abcdef", "x"), ("day",)),
    "subscriptions": (("billing", "x"), ("position",)),
}
"""Keys, and the fields of what they hold."""
LINE: Final = ("id", "time", "actor", "action", "target", "outcome", "service", "omitted")
MESSAGE_HEADERS: Final = (
    "Nats-Msg-Id",
    "Bank-Resume-Token",
    "Nats-Batch-Id",
    "Nats-Num-Pending",
    "Nats-Time-Stamp",
    "Nats-Pin-Id",
    "KV-Operation",
    "Status",
    "Description",
    "X",
)


class Messages(Draws):
    """Over NATS."""

    def message(self) -> tuple[str, bytes, dict[str, str]]:
        """Subject, payload and headers of a message: of the stream's subjects or a bucket's."""
        names = self.chance.sample(MESSAGE_HEADERS, self.chance.randrange(3))
        headers = {name: self.text(12).strip() or "x" for name in names}
        if "Bank-Resume-Token" in headers and self.chance.random() < 0.5:
            after = self.chance.choice((*JUNK, {"_data": 5}, {"_data": "82ff"}))
            headers["Bank-Resume-Token"] = json.dumps({"collection": "0", "after": after})
        if self.chance.random() < 0.4:
            bucket = self.chance.choice(list(BUCKETS))
            keys, fields = BUCKETS[bucket]
            key = self.chance.choice(keys).replace("{id}", self.chance.choice(self.accounts))
            return f"$KV.{bucket}.{key}", self._entry(fields), headers
        if self.chance.random() < 0.2:
            return f"audit.{self.chance.choice((*ACTIONS, 'x'))}", self._entry(LINE), headers
        return f"balance.{self.chance.choice(SUBJECTS)}", self._payload(), headers

    def _entry(self, fields: Sequence[str]) -> bytes:
        """A value that no bucket's reader can take: one of its fields is an object."""
        if self.chance.random() < 0.3:
            return self.chance.choice((b"", self.noise(60), orjson.dumps(self.chance.choice(JUNK))))
        value = {name: self.chance.choice((*JUNK, 2**62)) for name in fields}
        return orjson.dumps({**value, self.chance.choice(fields): {"$": 1}})

    def _payload(self) -> bytes:
        """No event, or one that can't follow what the account has."""
        kind = self.chance.randrange(5)
        if kind == 0:
            longest = self.chance.choice((0, 60, 60, 60, 60, 900_000))
            return self.noise(longest)
        if kind == 1:
            return orjson.dumps(self.chance.choice(JUNK))
        if kind == 2:  # known, but for what it says
            known = {**self.chance.choice(self.events), "body": {"money": 10**6, "owner": "Eve"}}
            return orjson.dumps(known, option=orjson.OPT_NAIVE_UTC)
        event: Mapping[str, Any] = self.event(self.chance.choice(self.accounts), 10**6)
        if kind == 3:
            event = {name: self.chance.choice((value, *JUNK)) for name, value in event.items()}
            event = {**event, "version": self.chance.choice((None, "1", -1, 10**9, 1.5, 2.0))}
        return orjson.dumps(event)
