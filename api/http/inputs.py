"""Checks what clients send: JSON bodies and query parameters become typed models, or a 400."""

import asyncio
import hashlib
import json
import re
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import orjson
from aiohttp import web
from aiohttp.hdrs import CONTENT_TYPE
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails, PydanticCustomError

from api.http.problems import Problem
from pipeline.model.events import ACCOUNT_ID

MAX_BODY: Final = 64 * 1024
MAX_MEMBERS: Final = 32
"""Members of an object in a body, and parameters of a query: to say what is wrong with each of
thousands would cost more than any command."""

BODY_SECONDS: Final = web.AppKey("body_seconds", float)
"""Of a service: in which a whole body must come."""

_MOST_FAULTS: Final = 20
_LONGEST_NAME: Final = 100
_JSON: Final = "application/json"
_JSON_TYPE = re.compile(r"application/([^\s;]+\+)?json", re.IGNORECASE)


_ID: Final = re.compile(ACCOUNT_ID)


def _whole_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise PydanticCustomError("account_id", "An account's id is 26 characters of 0-9 and A-Z")
    return value


AccountId = Annotated[
    str,
    AfterValidator(_whole_id),
    WithJsonSchema({"type": "string", "pattern": f"^{ACCOUNT_ID}$"}),
]


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise PydanticCustomError("number", "Must be a whole number")
    return int(text)


FROM_TEXT: Final = BeforeValidator(_whole_number)
"""For parameters that are whole numbers."""


def _drop_default(schema: JsonDict) -> None:
    schema.pop("default", None)


OPTIONAL: Final = Field(json_schema_extra=_drop_default)
"""For a field whose default means that it was left out, and is no value that may be sent."""


def _not_null(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "Must not be null: leave it out")
    return value


def _never_null(schema: JsonDict) -> None:
    _drop_default(schema)
    kinds = schema.pop("anyOf", None)
    for kind in kinds if isinstance(kinds, list) else ():
        if isinstance(kind, dict) and kind != {"type": "null"}:
            schema.update(kind)


V = TypeVar("V")

LeftOut = Annotated[V | None, BeforeValidator(_not_null), Field(json_schema_extra=_never_null)]
"""For a field of a body that may be left out, and then is None. Nobody may send null for it: of a
program that does, it is more likely that it has lost the value than that it wants the default."""


class Input(BaseModel):
    """Base of all inputs: no unknown fields, and no value is turned into another type."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


T = TypeVar("T", bound=Input)


async def received(request: web.Request) -> bytes:
    """The whole body, which must be JSON by its type; problem 400, 413 or 415."""
    content_type = request.headers.get(CONTENT_TYPE, "")
    # A page of another site may send an untyped body or a form without a preflight, but never JSON.
    if content_type != _JSON and not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip()):
        raise Problem(
            415,
            "unsupported-media-type",
            "The body must be JSON; say so with the header Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )
    return await _read(request)


async def body(request: web.Request, model: type[T]) -> T:
    """The JSON body as `model`; problem 400, 413 or 415."""
    return validated(await parsed(request), model)


async def parsed(request: web.Request) -> Any:
    """The JSON body; problem 400, 413 or 415."""
    return _parse(await received(request))


def validated(value: Any, model: type[T]) -> T:
    """A body as `model`; problem 400."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(
            [{"pointer": _pointer(e), "detail": e["msg"]} for e in _faults(error)]
        ) from None


def query(request: web.Request, model: type[T]) -> T:
    """The query parameters, each at most once, as `model`; problem 400."""
    if request.rel_url.raw_query_string.count("&") >= MAX_MEMBERS:
        raise invalid([{"detail": f"The query has more than {MAX_MEMBERS} parameters"}])
    twice = {name for name in request.query if len(request.query.getall(name)) > 1}
    if twice:
        raise invalid(
            [
                {"parameter": name[:_LONGEST_NAME], "detail": "Given more than once"}
                for name in sorted(twice)
            ]
        )
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise invalid(
            [
                {"parameter": str(e["loc"][0])[:_LONGEST_NAME], "detail": e["msg"]}
                for e in _faults(error)
            ]
        ) from None


def fingerprint(request: web.Request, given: Input) -> str:
    """A hash of the request's method, route, path and body, however the body is formatted.

    A field that was left out is not hashed, so the hash stays the same when inputs get new fields.
    """
    route = request.match_info.route.resource
    asked = [
        request.method,
        route.canonical if route else request.path,
        dict(request.match_info),
        given.model_dump(by_alias=True, exclude_unset=True),
    ]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY)
    try:
        if request.content.is_eof():  # all of it has come: there is nothing to wait for
            return await request.read()
        async with asyncio.timeout(request.app[BODY_SECONDS]):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "request-timeout", "The body did not come in time.") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Problem(400, "invalid-body", "The body is not what its headers promise.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        raise _TooManyMembers
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _DuplicateKey("One of its objects has a key twice.")
    return members


class _DuplicateKey(ValueError):
    pass


class _TooManyMembers(ValueError):
    pass


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique)
_PLAIN: Final = frozenset({str, int})


def _parse(raw: bytes) -> Any:
    try:
        # Strict UTF-8, no lone surrogates, no NaN; but keeps the last of two keys.
        value = orjson.loads(raw)
        return value if _is_exact(value, raw) else _DECODER.decode(raw.decode())
    except _TooManyMembers:
        detail = f"An object of the body has more than {MAX_MEMBERS} members"
        raise invalid([{"pointer": "#", "detail": detail}]) from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _DuplicateKey) else "It does not parse."
        raise Problem(400, "invalid-json", f"The body must be a JSON object. {reason}") from None


def _is_exact(value: Any, raw: bytes) -> bool:
    """Whether the decoder would make the same of it: most bodies are an object of a few texts and
    whole numbers. Each member has a colon, so where there are no more colons than keys, no key is
    there twice. A number of 2^64 and more would be a float here."""
    if not isinstance(value, dict) or not len(value) == raw.count(b":") <= MAX_MEMBERS:
        return False
    return _PLAIN.issuperset(map(type, value.values()))


def _faults(error: ValidationError) -> list[ErrorDetails]:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return faults[:_MOST_FAULTS]


def _pointer(fault: ErrorDetails) -> str:
    """Where in the body, as a JSON pointer in a URI fragment."""
    steps = (
        str(step)[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1") for step in fault["loc"]
    )
    return "#" + quote("".join(f"/{step}" for step in steps))


def invalid(errors: list[dict[str, str]]) -> Problem:
    """Problem 400 for faults, each with its `pointer` or `parameter` and a `detail`."""
    return Problem(400, "invalid-input", "; ".join(map(_sentence, errors)) + ".", errors=errors)


def _sentence(error: dict[str, str]) -> str:
    where = error.get("parameter")
    if where is None:  # not `not where`: the parameter of `?=1` has an empty name
        where = error.get("pointer", "").removeprefix("#/").removeprefix("#")
    return f"{where}: {error['detail']}" if where else error["detail"]
