"""The write engine's own errors. After each of them nothing is stored."""

from pipeline.model.aggregate import Refused


class AggregateNotFound(Refused):
    """There is no such aggregate."""


class OfAnotherAggregate(Refused):
    """The id is that of an aggregate of another sort."""


class VersionNotFound(Refused):
    """The aggregate has fewer events than that version."""


class NotBegunYet(Refused):
    """The aggregate's first event is later than that time."""


class VersionMismatch(Refused):
    """The aggregate has another version than the client requires: 0 if there is none yet."""

    def __init__(self, aggregate_id: str, version: int) -> None:
        super().__init__(aggregate_id=aggregate_id)
        self.version = version


class SameAggregate(Refused):
    """A joint command names one aggregate twice."""


class NotInApplication(LookupError):
    """The application has no such aggregate or joint command; the message names those it has."""


class KeyReused(Exception):
    """Another command was executed under this idempotency key before."""


class TooManyConflicts(Exception):
    """Another replica wrote to the aggregate in each of several attempts."""
