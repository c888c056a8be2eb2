"""Turns refusals of an application's aggregates into problem documents, each with a type of its
class."""

import inspect
import re
from collections.abc import Iterator

from api.commands import errors as engine_errors
from api.http.problem_types import PROBLEM_TYPES, ProblemType, title_of
from api.http.problems import Problem, unavailable
from pipeline.commands import (
    AggregateNotFound,
    AggregateUnreadable,
    OfAnotherAggregate,
    SameAggregate,
    VersionMismatch,
)
from pipeline.model.aggregate import Refused
from pipeline.model.claims import KeyClaimed, KeyNotClaimed

_OURS = ("pipeline.", "api.")


def translate(error: Exception) -> Problem | None:
    """The problem for this error; None for an error of ours."""
    match error:
        case VersionMismatch():
            before = "An aggregate that has no event yet has no version to match."
            return engine_errors.mismatch(error, "aggregate", before)
        case AggregateNotFound():
            about = error.aggregate_id
            detail = f"There is no aggregate {about}."
            return Problem(404, "aggregate-not-found", detail, aggregate=about)
        case OfAnotherAggregate():
            about = error.aggregate_id
            detail = f"{about} is the id of an aggregate of another sort."
            return Problem(409, "of-another-aggregate", detail, aggregate=about)
        case SameAggregate():
            about = error.aggregate_id
            detail = f"The command is over several aggregates, and names {about} twice."
            return Problem(400, "same-aggregate", detail, aggregate=about)
        case Refused():
            status, name = error.status, name_of(type(error))
            detail = str(error) or meaning_of(type(error))
            return Problem(status, name, detail, aggregate=error.aggregate_id)
        case AggregateUnreadable():
            detail = f"Nothing is decided on an aggregate that can't be read here. {error}"
            return unavailable("aggregate-unreadable", detail, aggregate=error.aggregate_id)
    return engine_errors.translate(error, "aggregate")


def refusal_types() -> list[ProblemType]:
    """One for each class of refusals that this process has imported; of the engine's own, for those
    of claims alone.

    Raises `TypeError` if two classes have one name, but not one status and meaning.
    """
    found: dict[str, type[Refused]] = {name_of(each): each for each in (KeyClaimed, KeyNotClaimed)}
    for each in _below(Refused):
        first = found.setdefault(name_of(each), each)
        if _type_of(first) != _type_of(each):
            raise TypeError(f"{_place(first)} and {_place(each)} can't both be {name_of(each)}")
    return [_type_of(each) for _, each in sorted(found.items())]


def _type_of(refusal: type[Refused]) -> ProblemType:
    return ProblemType(
        name_of(refusal),
        refusal.status,
        meaning_of(refusal),
        "Nothing was stored. Read the aggregate, and decide on what it is now.",
    )


def _place(refusal: type[Refused]) -> str:
    return f"{refusal.__module__}.{refusal.__qualname__}"


def name_of(refusal: type[Refused]) -> str:
    """`wrong-status` of `WrongStatus`; after `refused-` if the services have such a type."""
    words = re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", refusal.__name__)
    name = re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"refused-{name}" if name in PROBLEM_TYPES else name


def meaning_of(refusal: type[Refused]) -> str:
    """The first paragraph of the class's docstring, or its name in words."""
    about = inspect.cleandoc(refusal.__doc__ or "").partition("\n\n")[0]
    return " ".join(about.split()) or f"{title_of(name_of(refusal))}."


def _below(refusal: type[Refused]) -> Iterator[type[Refused]]:
    for each in refusal.__subclasses__():
        if not each.__module__.startswith(_OURS):
            yield each
        yield from _below(each)
