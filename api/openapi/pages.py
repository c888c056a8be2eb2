"""The OpenAPI document as a page for people, and the pages of the problem types."""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from api.http.html import Content, Markup, code, joined, link, page, phrase, prose, table, tag
from api.http.problem_types import ProblemType
from api.http.shapes import Schema
from api.openapi.document import Route
from pipeline.support.http_server import MEDIA_TYPE


def docs_page(document: Schema) -> web.Response:
    """All routes and all shapes of a service."""
    operations = list(_operations(document))
    return page(
        document["info"]["title"],
        prose(document["info"]["description"]),
        tag("p", link("/openapi.json", "OpenAPI 3.1"), " · ", link("/problems", "Problems")),
        tag(
            "ul",
            [tag("li", link(f"#{o['operationId']}", n), f" {o['summary']}") for n, o in operations],
        ),
        [_operation(name, operation, document) for name, operation in operations],
        tag("h2", "Shapes"),
        [_shape(name, schema) for name, schema in document["components"]["schemas"].items()],
    )


def _operations(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _operation(name: str, operation: Schema, document: Schema) -> Markup:
    given = [_resolved(each, document) for each in operation["parameters"]]
    body = operation.get("requestBody")
    return tag(
        "section",
        tag("h2", code(name)),
        tag("p", tag("strong", phrase(operation["summary"]))),
        prose(operation.get("description", "")),
        tag("p", tag("span", _lets_in(operation["security"]), class_="dim")),
        tag("h3", "Takes"),
        _body(body) if body else "",
        table(f"Parameters of {name}", ["Parameter", "In", "Type", "Meaning"], map(_row, given)),
        tag("h3", "Answers"),
        tag("dl", [_answer(*each) for each in operation["responses"].items()]),
        id=operation["operationId"],
    )


def _lets_in(security: list[Schema]) -> str:
    roles = [role for each in security for those in each.values() for role in those]
    return f"Lets in: {', '.join(roles) or 'everybody'}."


def _resolved(given: Schema, document: Schema) -> Schema:
    if "$ref" not in given:
        return given
    found: Schema = document["components"]["parameters"][given["$ref"].rpartition("/")[2]]
    return found


def _row(parameter: Schema) -> Iterable[Content]:
    needed = ", required" if parameter.get("required") else ""
    meaning = phrase(parameter.get("description", ""))
    return code(parameter["name"]), parameter["in"] + needed, _type(parameter["schema"]), meaning


def _body(body: Schema) -> Markup:
    needed = "" if body["required"] else ", or nothing"
    return tag("p", "A body: ", _media(body["content"]), needed)


def _media(content: Schema) -> Markup:
    return joined(
        [", " if n else "", code(kind), " ", _type(each["schema"])]
        for n, (kind, each) in enumerate(content.items())
    )


def _answer(status: str, response: Schema) -> Markup:
    content = response.get("content", {})
    body: Content = _media(content) if content else "nothing"
    if MEDIA_TYPE in content:
        types = content[MEDIA_TYPE]["schema"]["allOf"][1]["properties"]["type"]["enum"]
        body = tag("ul", [tag("li", link(each, each)) for each in types])
    return joined([tag("dt", f"{status} {HTTPStatus(int(status)).phrase}"), tag("dd", body)])


def _shape(name: str, schema: Schema) -> Markup:
    required = schema.get("required", [])
    rows = [
        (
            code(field),
            _type(about),
            "" if field in required else "may be left out",
            phrase(about.get("description", "")),
        )
        for field, about in schema.get("properties", {}).items()
    ]
    return tag(
        "section",
        tag("h3", name),
        prose(schema.get("description", "")),
        table(f"Fields of {name}", ["Field", "Type", "", "Meaning"], rows),
        id=f"shape-{name}",
    )


_LIMITS = {
    "pattern": "like {}",
    "format": "{}",
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minLength": "{} or more characters",
    "maxLength": "{} or fewer characters",
    "minItems": "{} or more",
    "maxItems": "{} at most",
    "default": "else {}",
}


def _type(schema: Schema) -> Markup:
    """A schema in a few words."""
    limits = [
        f", {words.format(schema[key])}"
        for key, words in _LIMITS.items()
        if schema.get(key) is not None
    ]
    return joined([_kind(schema), tag("span", limits, class_="dim") if limits else ""])


def _kind(schema: Schema) -> Content:
    match schema:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return link(f"#shape-{name}", name)
        case {"anyOf": [*kinds]}:
            return joined([" or " if n else "", _type(each)] for n, each in enumerate(kinds))
        case {"enum": [*values]}:
            return " or ".join(map(str, values))
        case {"const": value}:
            return str(value)
        case {"type": "array", "items": items}:
            return ["list of ", _type(items)]
    kind: Any = schema.get("type", "anything")
    return str(kind)


def problems_page(types: Iterable[ProblemType]) -> web.Response:
    """All types of problems."""
    rows = [[link(each.path, each.title), str(each.status), phrase(each.meaning)] for each in types]
    return page("Problems", table("Problems", ["Problem", "Status", "Meaning"], rows))


def problem_page(problem: ProblemType, routes: Sequence[Route]) -> web.Response:
    """What a problem means, what to do, and which routes answer it."""
    names = [tag("li", link(f"/docs#{each.name}", f"{each.method} {each.path}")) for each in routes]
    if problem.anywhere:
        where: Content = tag("p", "Any path may answer it.")
    else:
        where = tag("ul", names) if names else tag("p", "No route of this service answers it.")
    return page(
        problem.title,
        tag("p", code(problem.path), f" · {problem.status} {HTTPStatus(problem.status).phrase}"),
        tag("h2", "What it means"),
        prose(problem.meaning),
        tag("h2", "What to do"),
        prose(problem.remedy),
        tag("h2", "Where"),
        where,
        tag("p", link("/problems", "All problems"), " · ", link("/docs", "All routes")),
    )
