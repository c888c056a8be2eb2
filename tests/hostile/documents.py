"""What somebody writes by hand into MongoDB, Redis and Elasticsearch.

None is a truth that only looks odd: a sound event in the store has said what is so.
"""

from typing import Any, Final

import bson

from pipeline.model.events import SLOTS, slot_of
from tests.hostile.junk import JUNK, STORED_JUNK, Draws

LEASES: Final = ("bank:lease:forwarder", "bank:{partitions}:workers", "bank:{partitions}:began")


class Documents(Draws):
    """Into the stores."""

    def document(self) -> dict[str, Any]:
        """Of the collection of events: one with some fields missing, or not what they should be.

        It is of no account that anybody opened, or at no place where that one's event could be.
        """
        if self.chance.random() < 0.2:
            event = {**self.chance.choice(self.events), "_id": self.ulid()}
            event.pop("idempotency_key", None)
            if self.chance.random() < 0.5:
                return {**event, "slot": (event["slot"] + 1 + self.chance.randrange(9)) % SLOTS}
            return {**event, "version": self.chance.choice((None, "4", -1, 0, 1.5, True, {}))}
        document = self.event(self.ulid(), 1 + self.chance.randrange(3))
        if self.chance.random() < 0.2:  # of what is no account, in its slot
            document["account_id"] = self.chance.choice([x for x in JUNK if isinstance(x, str)])
            document["slot"] = slot_of(document["account_id"])
        for name in self.chance.sample(sorted(document), self.chance.randrange(1, 5)):
            if name == "_id":
                document["_id"] = self._unlike_an_id()
            elif self.chance.random() < 0.3:
                del document[name]
            else:
                document[name] = self.chance.choice(STORED_JUNK)
        return document

    def _unlike_an_id(self) -> Any:
        number = self.chance.randrange(10**12)
        kinds = ("\n", "é", {"a": 1}, bson.ObjectId(self.chance.randbytes(12)), None)
        kind = self.chance.choice(kinds)
        return f"{kind}{number}" if isinstance(kind, str) else {"_": kind, "n": number}

    def lease(self) -> tuple[str, ...]:
        """A command that puts what is no lease in the place of one."""
        keys = (*LEASES, *(f"bank:{{partitions}}:{p}" for p in range(8)))
        key = self.chance.choice(keys)
        number = self.chance.randrange(4)
        if number == 0:
            return "RPUSH", key, "x"
        if number == 1:
            return "SET", key, "nobody"
        if number == 2:
            return "HSET", key, "field", "value"
        return "ZADD", LEASES[1], str(9e15), "a ghost that lives for ever"

    def projected(self) -> tuple[str, str, dict[str, Any], int]:
        """Index, id, source and `_version` of a document somebody wrote by hand."""
        version = self.chance.choice((1, 7, 2**40 + 3, 2**62, 2**63 - 1))
        if self.chance.random() < 0.4:
            numbers = (None, -1, 0, 5, 2**62, 2**63 - 1)
            claim = {name: self.chance.choice(numbers) for name in ("sequence", "applied", "epoch")}
            key = f"balance-1-{self.chance.randrange(8)}-of-8"
            return "bank-checkpoints", key, {**claim, "owner": self.text(5)}, version
        fields = {
            "id": self.text(9),
            "owner": self.text(30),
            "balance": self.chance.choice((-5, 10**15, None)),
            "version": self.chance.choice((-1, 1, 10**9, None)),
        }
        names = self.chance.sample(sorted(fields), self.chance.randrange(5))
        source = {name: fields[name] for name in names}
        key = self.chance.choice((*self.accounts, self.ulid(), "a/b c", "é"))
        return "balance", key, source, version
