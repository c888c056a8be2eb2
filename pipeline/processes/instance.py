"""One instance of a process: what is kept of it, and the names of its commands. Pure.

It is a small state machine, and MongoDB has it change one step at a time (`revision`). A step
answers one cause: an event or a deadline. If commands follow, the cause is written into `doing`
before they are executed. So whoever goes on, whenever, answers that cause first, with the same
commands under the same keys, and never another one in its place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, Self, TypeAlias

from pipeline.model.events import Event, time_of
from pipeline.model.personal import is_encrypted, require_opened
from pipeline.model.process import Process, Reaction, S
from pipeline.model.upcasters import require_newest

Cause: TypeAlias = Event | datetime
"""An event, or a deadline that has come."""

UNKNOWN: Final = 0
"""The version of the process that made a state which can't be read."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_FIRST_RETRY: Final = timedelta(seconds=2)
_LONGEST_RETRY: Final = timedelta(minutes=10)


class Parked(NamedTuple):
    """Why an instance waits, since when, how often it was tried, and when it is tried again."""

    reason: str
    since: datetime
    attempts: int
    retry: datetime


class Stuck(Exception):
    """The instance can't answer its next cause, and is to be parked as it is."""

    def __init__(self, instance: "Instance[Any]", reason: str) -> None:
        super().__init__(reason)
        self.instance, self.reason = instance, reason


@dataclass(frozen=True, slots=True)
class Instance(Generic[S]):
    """`version`, `event_id` and `correlation_id` are those of the last event that it reacted to.
    `doing`: the version of the event, or the deadline, that is being answered. `made_by`: the
    version of the process that made the state."""

    process: Process[S]
    aggregate_id: str
    state: S
    made_by: int
    version: int = 0
    due: datetime | None = None
    doing: int | datetime | None = None
    parked: Parked | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    revision: int = 0

    @classmethod
    def new(cls, process: Process[S], aggregate_id: str) -> Self:
        return cls(process, aggregate_id, process.initial(), process.version)

    def reaction(self, cause: Cause) -> Reaction[S]:
        """What follows from an input. Raises `Stuck`."""
        try:
            if isinstance(cause, datetime):
                return self.process.on_due(self.state, cause)
            if is_encrypted(cause):
                require_opened(cause)
            require_newest(cause)
            return self.process.react(self.state, cause)
        except Exception as error:  # whatever the process raises: it parks this instance alone
            what = f"deadline {cause}" if isinstance(cause, datetime) else _worded(cause)
            raise Stuck(self, f"{what}: {error!r}") from error

    def begun(self, cause: Cause) -> Self:
        """It is about to execute what follows from the input."""
        doing = cause if isinstance(cause, datetime) else cause["version"]
        return replace(self, doing=doing)

    def after(self, cause: Cause, reaction: Reaction[S]) -> Self:
        """All that follows from the cause is executed."""
        after = replace(self._with(reaction), doing=None, parked=None)
        if isinstance(cause, datetime):
            return after
        return replace(
            after,
            version=cause["version"],
            event_id=cause["_id"],
            correlation_id=cause["correlation_id"],
        )

    def key(self, cause: Cause, number: int) -> str:
        """The idempotency key of the input's command of that number.

        It has a character that no client's key can have: by HTTP they are printable ASCII.
        """
        # A deadline may be set again for the same time, after another event.
        its = (
            f"{self.aggregate_id}/{self.version}/{cause.isoformat()}"
            if isinstance(cause, datetime)
            else cause["_id"]
        )
        return f"{self.process.name}→{its}/{number}"

    def waiting(self, reason: str, now: datetime) -> Self:
        """Parked, for a longer time after each attempt."""
        before = self.parked
        attempts = before.attempts + 1 if before else 1
        pause = min(_FIRST_RETRY * 2 ** min(attempts - 1, 16), _LONGEST_RETRY)
        since = before.since if before else now
        return replace(self, parked=Parked(reason, since, attempts, now + pause))

    def refolded(self, events: Iterable[Event]) -> Self:
        """The state as the present version of the process makes it of these events, from the first
        on, and of the deadlines between them; no command is executed. The deadline that is still to
        be answered stays, though later events have been. Raises `Stuck`."""
        at = replace(self, state=self.process.initial(), due=None)
        answered = self.due or _NEVER
        try:
            for event in events:
                while at.due is not None and at.due <= time_of(event) and at.due < answered:
                    at = at._with(at.reaction(at.due))
                at = at._with(at.reaction(event))
        except Stuck as stuck:
            raise Stuck(self, stuck.reason) from stuck
        return replace(at, made_by=self.process.version)

    def _with(self, reaction: Reaction[S]) -> Self:
        return replace(self, state=reaction.state, due=reaction.due)

    # ---------------------------------------------------------------- as it is kept

    def document(self) -> dict[str, Any]:
        kept = {
            "_id": f"{self.process.name}/{self.aggregate_id}",
            "process": self.process.name,
            "aggregate_id": self.aggregate_id,
            "state": self.process.to_json(self.state),
            "made_by": self.made_by,
            "version": self.version,
            "revision": self.revision,
            "due": self.due,
            "doing": self.doing,
            "event_id": self.event_id,
            "correlation_id": self.correlation_id,
            "parked": self.parked and self.parked._asdict(),
            "wake": self.parked.retry if self.parked else self.due,
        }
        return {name: value for name, value in kept.items() if value is not None}

    @classmethod
    def of(cls, process: Process[S], document: Mapping[str, Any]) -> Self:
        """Of what `document` returned. A state that can't be read is one that no version made."""
        doing, parked = document.get("doing"), document.get("parked")
        found = cls(
            process,
            document["aggregate_id"],
            process.initial(),
            document["made_by"],
            document["version"],
            _utc(document.get("due")),
            _utc(doing) if isinstance(doing, datetime) else doing,
            parked and Parked(**{**parked, **_times(parked)}),
            document.get("event_id"),
            document.get("correlation_id"),
            document["revision"],
        )
        if found.made_by != process.version:
            return found  # it may be of another shape: see `refolded`
        try:
            return replace(found, state=process.of_json(document["state"]))
        except Exception:  # whatever `of_json` raises
            return replace(found, made_by=UNKNOWN)


def _times(parked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _utc(parked[name]) for name in ("since", "retry")}


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)


def _worded(event: Event) -> str:
    return f"version {event['version']}, {event['kind']}"
