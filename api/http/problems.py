"""Problem documents (RFC 9457): the form of every error that the services answer."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NotRequired

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from typing_extensions import TypedDict

from api.http import correlation
from api.http.problem_types import path_of, title_of
from pipeline.support.http_server import MEDIA_TYPE

log = logging.getLogger(__name__)

Translate = Callable[[Exception], "Problem | None"]
Check = Callable[[web.Request], None]
"""Raises a `Problem` for a request that is refused by its head."""
TRANSLATE: Final[web.AppKey[Translate]] = web.AppKey("translate")
"""How the service makes problems of its own errors."""


class Fault(TypedDict):
    """What is wrong with one field or parameter: where it is, in the body or among the parameters,
    and why."""

    pointer: NotRequired[str]
    parameter: NotRequired[str]
    detail: str


class ProblemDocument(TypedDict):
    """What went wrong, as in RFC 9457. `type` is stable, and has a page of its own."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: NotRequired[list[Fault]]
    account: NotRequired[str]
    aggregate: NotRequired[str]
    version: NotRequired[int]
    missing: NotRequired[list[str]]
    rebuild: NotRequired[str]


class Problem(Exception):
    """An error answer. `name` makes its type, which never changes."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`members`: what the document holds beside type, title, status, detail and instance."""
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def response(self, instance: str) -> web.Response:
        """The document, as the answer to the request for the path `instance`."""
        document = {
            "type": path_of(self.name),
            "title": title_of(self.name),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            **self.members,
        }
        return web.Response(
            status=self.status,
            body=orjson.dumps(document),
            content_type=MEDIA_TYPE,
            headers=self.headers,
        )


def unavailable(name: str, detail: str, **members: Any) -> Problem:
    """A 503: try again in a second."""
    return Problem(503, name, detail, headers={"Retry-After": "1"}, **members)


def middleware(translate: Translate, checks: Iterable[Check]) -> Middleware:
    """Check every request before its handler, and answer every exception with a problem;
    `translate` knows the service's own."""
    checks = tuple(checks)

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            for check in checks:
                check(request)
            return await handler(request)
        except Exception as error:
            problem = problem_of(error, translate) or _internal(request, error)
        return problem.response(_instance(request))

    return answer


def problem_of(error: Exception, translate: Translate) -> Problem | None:
    """The problem for this error; None if the fault is ours."""
    match error:
        case Problem():
            return error
        case web.HTTPException():
            return _of_http(error)
    return translate(error)


def _of_http(error: web.HTTPException) -> Problem:
    """The problem for an error of aiohttp's router or body reader."""
    details = {
        404: "There is nothing here, or an id in the path is not written as one: see /docs.",
        405: f"Only {', '.join(sorted(getattr(error, 'allowed_methods', ())))} is possible here.",
        413: "The body is longer than 64 KiB.",
    }
    names = {413: "body-too-large"}
    phrase = HTTPStatus(error.status).phrase
    return Problem(
        error.status,
        names.get(error.status, phrase.lower().replace(" ", "-")),
        details.get(error.status, phrase),
        headers={name: error.headers[name] for name in ("Allow",) if name in error.headers},
    )


def _internal(request: web.Request, error: Exception) -> Problem:
    """A fault of ours: its traceback goes to the log and nothing of it to the client."""
    reference = correlation.current()
    log.error("%s %s failed", request.method, _instance(request), exc_info=error)
    return Problem(
        500,
        "internal-error",
        f"The fault is ours. The log has it under correlation id {reference}.",
    )


def _instance(request: web.Request) -> str:
    return request.rel_url.raw_path.encode("ascii", "replace").decode("ascii")
