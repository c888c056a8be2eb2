"""The names of an application at the servers, all in one place, pure.

Several applications may share the four servers: all names of one begin with its own, so that none
meets another's. Whoever connects to a server has them beside its URL (`support/access.py`).
"""

import re
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile("[a-z][a-z0-9_]{0,30}")


class InvalidName(ValueError):
    """What can't be the name of an application or an aggregate; the message is for people."""


def is_name(text: str) -> bool:
    """Whether an application, a projection or an aggregate may have this name."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Names:
    """Of the application of that name.

    `log`: the stream of its events. `prefix` stands before streams, buckets, indexes and aliases.
    `plain`: the projection whose buckets and leases do not have its name at their end.
    """

    application: str
    log: str
    prefix: str
    plain: str = ""

    # ---------------------------------------------------------------- JetStream

    def subject(self, partition: int) -> str:
        """The subject of a partition's events."""
        return f"{self.log}.{partition}"

    @property
    def subject_pattern(self) -> str:
        """The subjects of all partitions, for people and documents."""
        return f"{self.log}.{{partition}}"

    @property
    def token_subject(self) -> str:
        """The subject of messages that only renew the resume token."""
        return f"{self.log}.token"

    @property
    def partitions_subject(self) -> str:
        """The subject of messages that change the number of partitions."""
        return f"{self.log}.partitions"

    @property
    def audit(self) -> str:
        """The stream of the audit log."""
        return f"{self.prefix}audit"

    @property
    def happenings(self) -> str:
        """The stream of the timeline."""
        return f"{self.prefix}happenings"

    def changelog(self, table: str) -> str:
        """The stream of a table's changelog, as Faust names it."""
        return f"{self.application}-{table}-changelog"

    def bucket(self, what: str) -> str:
        """A KV bucket; its stream is `KV_…`."""
        return f"{self.prefix}{what}"

    @property
    def requests(self) -> str:
        """The bucket of requests to the forwarder, before `bucket` names it."""
        return "requests" if self.prefix else self.application

    def owns_stream(self, stream: str) -> bool:
        """Whether it is one of ours, by its name: an earlier release left nothing else to tell it
        by."""
        return self._streams().fullmatch(stream) is not None

    def _streams(self) -> re.Pattern[str]:
        log, prefix, requests = map(re.escape, (self.log, self.prefix, self.requests))
        of_projections = r"(partitions|parked|rebuild)(-.+)?"
        return re.compile(
            rf"{log}|{prefix}(audit|happenings)|{self.application}-\w+-changelog"
            rf"|KV_{prefix}({requests}|keys|key-uses|subscriptions|{of_projections})"
        )

    def news(self, what: str) -> str:
        """The subject of news (`messaging/news.py`)."""
        return f"{self.application}.news.{what}"

    @property
    def instances(self) -> str:
        """The subject of questions to all instances (`messaging/instances.py`)."""
        return f"{self.application}.instances"

    @property
    def ended_instances(self) -> str:
        """The subject on which an instance says that it ends."""
        return f"{self.instances}.ended"

    def written(self, projection: str) -> str:
        """What the subjects of a projection's notifications begin with."""
        return f"{self.application}.written.{projection}"

    # ---------------------------------------------------------------- Redis

    def lease(self, name: str) -> str:
        """The key of a lease."""
        return f"{self.application}:lease:{name}"

    def worker_key(self, name: str) -> str:
        """A key of what workers share: one hash slot, so that a cluster runs the scripts, too."""
        return f"{self.application}:{{partitions}}:{name}"

    # ---------------------------------------------------------------- Elasticsearch

    def alias(self, projection: str) -> str:
        """The alias that readers of a projection see; its indexes are `…-{n}`."""
        return f"{self.prefix}{projection}"

    @property
    def checkpoints(self) -> str:
        """The index of the checkpoints."""
        return f"{self.application}-checkpoints"

    @property
    def checkpoints_alias(self) -> str:
        """Writes go through it: an index deleted by hand would come back under its own name, with a
        guessed mapping."""
        return f"{self.checkpoints}-live"

    # ---------------------------------------------------------------- elsewhere

    @property
    def title(self) -> str:
        """The application's name for people."""
        return self.application.replace("_", " ").capitalize()

    def of(self, what: str, projection: str) -> str:
        """What each projection has one of, such as a bucket, before the prefix."""
        return what if projection == self.plain else f"{what}-{projection}"

    @property
    def database(self) -> str:
        """The database in MongoDB, unless the settings name another."""
        return self.application

    def metric(self, name: str) -> str:
        """The name of one of our metrics, which modules call `bank_…`."""
        return re.sub("^bank_", f"{self.application}_", name)


BANK: Final = Names("bank", log="balance", prefix="", plain="balance")
"""The bank was there before other applications: it keeps the names that its data has."""

_TAKEN: Final = frozenset(
    {"audit", "balance", "happenings", "key", "keys", "parked", "partitions", "rebuild"}
    | {"admin", "config", "local", "statement"}  # the first three are databases of MongoDB itself
)


def names_of(application: str) -> Names:
    """The names of an application. Raises `InvalidName`."""
    if application == BANK.application:
        return BANK
    if not is_name(application):
        raise InvalidName(f"{application!r} is no name: lower case letters, digits and _")
    if application in _TAKEN:
        raise InvalidName(f"{application!r} can't be an application: others have such names")
    return Names(application, log=f"{application}-log", prefix=f"{application}-")
