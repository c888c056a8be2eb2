"""Describes a route beside its handler: the OpenAPI document and its page are made from it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from aiohttp.typedefs import Handler

JSON: Final = "application/json"
HTML: Final = "text/html"

_KEPT: Final = "__operation__"


class Header(NamedTuple):
    """A header of requests or answers; `schema` as in JSON Schema."""

    name: str
    meaning: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: `content` has the type of its body for each media type."""

    content: Mapping[str, Any]
    status: int = 200
    headers: tuple[Header, ...] = ()


def json(of: Any, *headers: Header, status: int = 200) -> Answer:
    """An answer in JSON, which has the shape of this type."""
    return Answer({JSON: of}, status, headers)


@dataclass(frozen=True, slots=True)
class Operation:
    """`also`: other successful answers. `body` and `query`: the models that check them. `problems`:
    the names of problems beside those that its inputs imply (`all_problems`). `about`: used in
    place of the handler's docstring."""

    answer: Answer
    also: tuple[Answer, ...] = ()
    body: Any = None
    body_required: bool = True
    query: Any = None
    headers: tuple[Header, ...] = ()
    problems: tuple[str, ...] = ()
    about: str = ""

    @property
    def answers(self) -> tuple[Answer, ...]:
        return (self.answer, *self.also)


H = TypeVar("H", bound=Callable[..., Any])


def operation(
    answer: Answer,
    *problems: str,
    also: tuple[Answer, ...] = (),
    body: Any = None,
    body_required: bool = True,
    query: Any = None,
    headers: Iterable[Header] = (),
    about: str = "",
) -> Callable[[H], H]:
    """Describes the handler; the first line of its docstring is the title."""
    described = Operation(answer, also, body, body_required, query, tuple(headers), problems, about)

    def describe(handler: H) -> H:
        setattr(handler, _KEPT, described)
        return handler

    return describe


def operation_of(handler: Handler) -> Operation | None:
    """The description of a handler, if it has one. Decorators that use `wraps` keep it."""
    return getattr(handler, _KEPT, None)


_OF_BODIES: Final = (
    "invalid-json",
    "invalid-body",
    "invalid-input",
    "body-too-large",
    "unsupported-media-type",
    "request-timeout",
)


_OF_ALL: Final = (
    "malformed-request",
    "unsupported-encoding",
    "expectation-failed",
    "head-too-large",
    "internal-error",
)


_OF_KEYS: Final = (
    "invalid-authorization",
    "key-required",
    "key-invalid",
    "not-allowed",
    "cross-site",
    "too-many-requests",
    "keys-unavailable",
)


def all_problems(operation: Operation, *, variable: bool, guarded: bool) -> list[str]:
    """The names of all its problems. `variable`: its path has parameters; `guarded`: it requires
    a key."""
    names = [
        *(_OF_KEYS if guarded else ("cross-site",)),
        *(_OF_BODIES if operation.body is not None else ()),
        *(("invalid-input",) if operation.query is not None else ()),
        *(("not-found",) if variable else ()),
        *operation.problems,
        *_OF_ALL,
    ]
    return list(dict.fromkeys(names))
