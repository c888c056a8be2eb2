"""`/schemas`: what events look like, as JSON Schema 2020-12, for each kind and each of its schemas.

Made of what the application's aggregates say of their bodies (`Aggregate(…, bodies=…)`).
"""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter
from typing_extensions import TypedDict, is_typeddict

from api.http.operations import Answer, json, operation
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import All, Schema, readable
from api.security.access import open_to_all
from pipeline.application import Application
from pipeline.model.events import Event

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MEDIA_TYPE: Final = "application/schema+json"

_DEFINITION: Final = "#/$defs/{model}"

routes = web.RouteTableDef()


class KnownSchema(TypedDict):
    """A kind of events, and a schema of it."""

    kind: str
    version: int
    path: str


class EventSchemas:
    """Those of an application, by kind and schema."""

    def __init__(self, application: Application) -> None:
        self._application = application

    @cached_property
    def all(self) -> Mapping[tuple[str, int], Schema]:
        """In order. A kind that is declared nowhere has none."""
        application = self._application
        bodies = {k: v for each in application.all_aggregates for k, v in each.bodies.items()}
        personal = {k: v for each in application.all_aggregates for k, v in each.personal.items()}
        known = {
            (kind, schema)
            for each in application.all_aggregates
            for kind, newest in each.schemas.items()
            for schema in range(1, newest + 1)
        }
        for kind, schema in application.upcasters:
            known |= {(kind, schema), (kind, schema + 1)}
        return {
            (kind, schema): _schema_of(
                kind, schema, bodies.get((kind, schema)), personal.get(kind, ())
            )
            for kind, schema in sorted(known)
        }


def _schema_of(kind: str, schema: int, body: Any, personal: Collection[str]) -> Schema:
    """`personal`: the fields that the body lacks where the event is as it is stored."""
    envelope = _made(Event)
    properties = {
        **envelope["properties"],
        "kind": {"const": kind},
        "schema": {"const": schema},
        "body": {"type": "object"} if body is None else _without(personal, _made(body)),
    }
    return {**envelope, "title": f"{kind}, schema {schema}", "properties": properties}


def _without(fields: Collection[str], body: Schema) -> Schema:
    """The body's schema where these may be missing."""
    required = [each for each in body.get("required", ()) if each not in fields]
    return {**body, "required": required} if "required" in body else body


def _made(of: Any) -> Schema:
    """The JSON Schema of a type, without references; one that is a schema already stays."""
    if isinstance(of, Mapping):
        return dict(of)
    adapter = TypeAdapter(readable(of) if is_typeddict(of) else of)
    # As they are read: a field may be left out, and other fields may be there.
    schema = adapter.json_schema(ref_template=_DEFINITION)
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(definitions[part["$ref"].rpartition("/")[2]])
        # A title that repeats a name is noise.
        return {
            name: whole(each)
            for name, each in part.items()
            if name != "title" or not isinstance(each, str)
        }

    made: Schema = whole(schema)
    return made


SCHEMAS: Final = web.AppKey("schemas of events", EventSchemas)


@routes.get("/schemas")
@open_to_all
@operation(json(All[KnownSchema]))
async def schemas(request: web.Request) -> web.Response:
    """The kinds of events, and the schemas of each."""
    known = request.app[SCHEMAS].all
    data = [{"kind": k, "version": v, "path": f"/schemas/{k}/{v}"} for k, v in known]
    return reply({"data": data})


@routes.get("/schemas/{kind}/{version:[0-9]{1,9}}")
@open_to_all
@operation(Answer({MEDIA_TYPE: dict[str, object]}))
async def schema(request: web.Request) -> web.Response:
    """What events of a kind look like that have this schema: a JSON Schema 2020-12."""
    kind, version = request.match_info["kind"], int(request.match_info["version"])
    found = request.app[SCHEMAS].all.get((kind, version))
    if found is None:
        raise Problem(404, "not-found", f"No kind of events {kind} has a schema {version}.")
    answer = reply({"$schema": DIALECT, **found})
    answer.content_type = MEDIA_TYPE
    return answer
