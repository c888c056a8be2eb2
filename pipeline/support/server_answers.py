"""Words the failure of a server: one that answers with an error is not one that does not answer."""

from collections.abc import Iterator
from typing import Final

SILENCE: Final = "does not answer"
ERROR: Final = "answers with an error"

_JETSTREAM: Final = "JetStreamError"
_ERRORS: Final = frozenset(
    {_JETSTREAM, "OperationFailure", "ResponseError", "BusyLoadingError", "ApiError"}
)
"""The drivers' and our own classes of what a server has answered, by name: this room imports no
driver."""
_NO_ANSWERS: Final = frozenset({"ExecutionTimeout"})
"""One of these by its class, but PyMongo itself raises it when too little time is left to ask."""


def answered(error: BaseException) -> BaseException | None:
    """The error with which the server answered, among the causes of this one; None: with none."""
    return next(
        (each for each in _causes(error) if _is(each, *_ERRORS) and not _is(each, *_NO_ANSWERS)),
        None,
    )


def silence(server: str) -> str:
    """That the server, by the name of people, does not answer."""
    return f"{server} {SILENCE}"


def worded(server: str, error: BaseException, silent: str = SILENCE) -> str:
    """What the server did, with the text of the error; `silent` is said of one that gave none."""
    # PyMongo appends the whole reply.
    text = str(error).partition(", full error: ")[0] or "no answer in time"
    return f"{server} {ERROR if answered(error) else silent}: {text}"


def public(error: BaseException) -> str:
    """What everybody may read of it: nothing of silence, and of an answer the kind of error alone.

    JetStream takes its words from a list; those of the others may tell what is stored.
    """
    found = answered(error)
    if found is None:
        return ""
    return f"{ERROR}: {found if _is(found, _JETSTREAM) else type(found).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, but nothing that was only being handled then."""
    while error is not None:
        yield error
        error = error.__cause__


def _is(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
