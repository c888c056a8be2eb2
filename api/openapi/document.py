"""The OpenAPI 3.1 document of a service, made from its routes and their `@operation`s."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from itertools import groupby
from typing import Any, Final, NamedTuple

from aiohttp import web

from api.http import correlation
from api.http.headers import ETAG, RETRY_AFTER, WWW_AUTHENTICATE
from api.http.operations import JSON, Answer, Header, Operation, all_problems, operation_of
from api.http.problem_types import ProblemType
from api.http.problems import ProblemDocument
from api.http.shapes import Schema, Schemas, parameters
from api.security.access import RouteAccess, access_of
from pipeline.support.http_server import MEDIA_TYPE

_ABOUT: Final = """\
A `HEAD` is answered as its `GET` would be, without the body, or with 405. Errors are problem
documents (RFC 9457), and each `type` has a page that says what to do. Where keys are on, a route
lets in those whose key has one of its roles; where they are off, everybody."""

_SCHEME: Final = "key"
_SCHEMES: Final = {
    _SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "bank_{id}_{secret}",
        "description": "A key that `bank keys create` has made. The bank may run without.",
    }
}

_OF_STATUS: Final = {
    401: (WWW_AUTHENTICATE,),
    409: (RETRY_AFTER,),
    412: (ETAG,),
    429: (RETRY_AFTER,),
    503: (RETRY_AFTER,),
}
"""Headers that problems may have."""


class Undescribed(LookupError):
    """A route whose handler has no `@operation`."""


class Route(NamedTuple):
    """A route as it is described. `variables` are the parameters in its path, as expressions."""

    method: str
    path: str
    variables: dict[str, str]
    name: str
    about: str
    operation: Operation
    access: RouteAccess

    @property
    def problems(self) -> list[str]:
        """The names of all that it may answer."""
        guarded = self.access.roles is not None
        return all_problems(self.operation, variable=bool(self.variables), guarded=guarded)


def described(routes: Iterable[web.AbstractRoute]) -> Iterator[Route]:
    """All but HEAD, which goes with GET; raises `Undescribed`."""
    for route in routes:
        if route.method == "HEAD":
            continue
        operation, resource = operation_of(route.handler), route.resource
        if operation is None or resource is None:
            raise Undescribed(f"{route.method} {resource.canonical if resource else route}")
        about = inspect.cleandoc(operation.about or route.handler.__doc__ or "")
        name = route.handler.__name__
        access, variables = access_of(route.handler), _variables(resource)
        yield Route(route.method, resource.canonical, variables, name, about, operation, access)


def document(title: str, routes: Sequence[Route], types: Mapping[str, ProblemType]) -> Schema:
    """The document of a service with these routes and types of problems."""
    schemas = Schemas(
        [each.operation.body for each in routes if each.operation.body is not None],
        [
            ProblemDocument,
            *(
                of
                for each in routes
                for answer in each.operation.answers
                for of in answer.content.values()
            ),
        ],
    )
    paths: Schema = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, types)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("bank-transfer"), "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "parameters": {correlation.HEADER: _given(correlation.DESCRIBED)},
            "securitySchemes": _SCHEMES,
        },
    }


def _variables(resource: web.AbstractResource) -> dict[str, str]:
    pattern = resource.get_info().get("pattern")
    return dict(re.findall(r"\(\?P<(\w+)>([^()]*)\)", pattern.pattern)) if pattern else {}


def _operation(route: Route, schemas: Schemas, types: Mapping[str, ProblemType]) -> Schema:
    operation = route.operation
    summary, _, description = route.about.partition("\n")
    described: Schema = {
        "operationId": route.name,
        "summary": summary.removesuffix("."),
        "parameters": [
            *(_in_path(name, pattern) for name, pattern in route.variables.items()),
            *(parameters(operation.query) if operation.query is not None else ()),
            *map(_given, operation.headers),
            {"$ref": f"#/components/parameters/{correlation.HEADER}"},
        ],
        "responses": {
            **{str(each.status): _answer(each, schemas) for each in operation.answers},
            **_problems([types[each] for each in route.problems], schemas),
        },
        # Any one of these will do, as OpenAPI reads it.
        "security": [{_SCHEME: [role]} for role in sorted(route.access.roles or ())],
    }
    if description:
        described["description"] = description.strip()
    if operation.body is not None:
        content = {JSON: {"schema": schemas.of(operation.body)}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _in_path(name: str, pattern: str) -> Schema:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _given(header: Header) -> Schema:
    name, meaning, schema = header
    return {"name": name, "in": "header", "description": meaning, "schema": schema}


def _answer(answer: Answer, schemas: Schemas) -> Schema:
    media = {kind: {"schema": schemas.given(of)} for kind, of in answer.content.items()}
    return _response(HTTPStatus(answer.status).phrase, answer.headers, media)


def _problems(types: Iterable[ProblemType], schemas: Schemas) -> Schema:
    responses = {}
    by_status = sorted(types, key=lambda each: each.status)
    for status, group in groupby(by_status, key=lambda each: each.status):
        those = list(group)
        only = {"properties": {"type": {"enum": [each.path for each in those]}}}
        schema = {"allOf": [schemas.given(ProblemDocument), only]}
        responses[str(status)] = _response(
            "; ".join(each.title for each in those),
            _OF_STATUS.get(status, ()),
            {MEDIA_TYPE: {"schema": schema}},
        )
    return responses


def _response(description: str, headers: Iterable[Header], content: Any) -> Schema:
    shown = {
        each.name: {"description": each.meaning, "schema": each.schema}
        for each in (*headers, correlation.DESCRIBED)
    }
    response: Schema = {"description": description, "headers": shown}
    return {**response, "content": content} if content else response
