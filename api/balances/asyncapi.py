"""`/asyncapi.json`: the stream of the log and the feed, as an AsyncAPI 3 document.

Made of the schemas of events, the application's names, and the parameters that the feed checks.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web

from api.balances.event_schemas import DIALECT, EventSchemas
from api.balances.feed import LAST_EVENT_ID, FeedQuery
from api.http.operations import JSON, json, operation
from api.http.replies import reply
from api.http.shapes import Schema, parameters
from api.http.streams import EVENTS
from api.security.access import open_to_all
from pipeline.application import Application
from pipeline.messaging import MESSAGE_ID
from pipeline.operations.feed.cloud_events import MEDIA_TYPE
from pipeline.operations.feed.position import LONGEST

ADDRESS: Final = "/events"
_ABOUT: Final = """\
Every event of the application, at least once, each account's in order of its versions. Drop repeats
by the event's id. The feed goes on after any position in it; where the log has lost what follows,
it has the events of the event store again, from the first one. The stream is NATS JetStream, for
those whom the operator lets in; it has what the log has kept, and messages that are no events. Its
events have no personal fields, but `encrypted` in their place."""
_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_BINDING: Final = "0.3.0"
_TEXT: Final = {"type": "string"}

routes = web.RouteTableDef()


class StreamContract:
    """The document of an application, made at the first use."""

    def __init__(self, application: Application, schemas: EventSchemas) -> None:
        self._application, self._schemas = application, schemas

    @cached_property
    def document(self) -> Schema:
        names, known = self._application.names, [*self._schemas.all.items()]
        messages: Schema = {}
        for (kind, schema), event in known:
            messages[f"{kind}.{schema}"] = _message(kind, schema, event)
            messages[f"{kind}.{schema}.cloudevent"] = _cloud_message(kind, schema, event)
        log = [f"{kind}.{schema}" for (kind, schema), _ in known]
        feed = [f"{each}.cloudevent" for each in log]
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": f"The events of {self._application.name}",
                "version": version("bank-transfer"),
                "description": _ABOUT,
            },
            "defaultContentType": JSON,
            "servers": {
                "service": _server("http", "8030", "The balance service", _SECURITY),
                "nats": _server("nats", "4222", "NATS JetStream"),
            },
            "channels": {
                "feed": _channel("service", ADDRESS, feed, "The feed over HTTP"),
                "log": {
                    **_channel("nats", names.subject_pattern, log, f"The stream {names.log}"),
                    "parameters": {
                        "partition": {"description": "A partition's number, from 0 on."}
                    },
                },
            },
            "operations": {
                "followEvents": _operation("feed", feed, _FOLLOW, _http(with_accept=True)),
                "readEvents": _operation("feed", feed, _READ, _http(with_accept=False)),
                "publishEvents": _operation("log", log, _PUBLISH),
            },
            "components": {
                "messages": messages,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }


_SECURITY: Final = [{"$ref": "#/components/securitySchemes/key"}]
_FOLLOW: Final = (
    "Server-sent events without an end. Each `data` is one message, and each `id` the position"
    f" after it: pass the last one as `{LAST_EVENT_ID.name}`, or as `after`, to go on. An `id`"
    " alone says how far the stream has come."
)
_READ: Final = (
    "A page: an object with the messages in `data`, `has_more`, and `next`, the position to pass as"
    " `after` for the page after it."
)
_PUBLISH: Final = "The forwarder publishes each event once, in the order of the log."


def _server(protocol: str, port: str, title: str, security: Any = None) -> Schema:
    server: Schema = {
        "host": "{host}:{port}",
        "protocol": protocol,
        "title": title,
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": port}},
    }
    return {**server, "security": security} if security else server


def _channel(server: str, address: str, messages: list[str], title: str) -> Schema:
    return {
        "title": title,
        "address": address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in messages},
    }


def _operation(
    channel: str, messages: list[str], description: str, bindings: Schema | None = None
) -> Schema:
    made: Schema = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{each}"} for each in messages],
        "description": description,
    }
    return {**made, "bindings": {"http": bindings}} if bindings else made


def _http(*, with_accept: bool) -> Schema:
    """The query, as the feed checks it; for a stream also what its description says in words."""
    query = {
        each["name"]: {**each["schema"], "description": each["description"]}
        for each in parameters(FeedQuery)
    }
    binding: Schema = {
        "method": "GET",
        "query": {"type": "object", "properties": query, "additionalProperties": False},
        "bindingVersion": _BINDING,
    }
    if with_accept:
        binding["x-headers"] = {
            "Accept": {"const": EVENTS},
            LAST_EVENT_ID.name: {**LAST_EVENT_ID.schema, "description": LAST_EVENT_ID.meaning},
        }
    return binding


def _message(kind: str, schema: int, event: Mapping[str, Any]) -> Schema:
    return {
        "name": f"{kind}.{schema}",
        "title": f"{kind}, schema {schema}",
        "contentType": JSON,
        "headers": {
            "type": "object",
            "required": [MESSAGE_ID],
            "properties": {MESSAGE_ID: {**_TEXT, "description": "The event's id."}},
        },
        "payload": _payload(event),
    }


def _cloud_message(kind: str, schema: int, event: Mapping[str, Any]) -> Schema:
    return {
        "name": f"{kind}.{schema}.cloudevent",
        "title": f"{kind}, schema {schema}, as CloudEvents 1.0",
        "contentType": MEDIA_TYPE,
        "payload": _payload(_cloud_event(kind, schema, event)),
    }


def _payload(schema: Mapping[str, Any]) -> Schema:
    return {"schemaFormat": _FORMAT, "schema": {"$schema": DIALECT, **schema}}


def _cloud_event(kind: str, schema: int, event: Mapping[str, Any]) -> Schema:
    attributes = dict(_attributes(kind, schema))
    optional = {"time", "correlationid", "causationid", "traceparent"}
    return {
        "type": "object",
        "required": sorted({*attributes, "data"} - optional),
        "properties": {**attributes, "data": dict(event)},
    }


def _attributes(kind: str, schema: int) -> Iterator[tuple[str, Schema]]:
    yield "specversion", {"const": "1.0"}
    yield "id", {**_TEXT, "description": "The event's id. Drop repeats by it."}
    yield "source", {**_TEXT, "format": "uri-reference"}
    yield "type", {"const": kind}
    yield "subject", {**_TEXT, "description": "The account."}
    yield "time", {**_TEXT, "format": "date-time"}
    yield "datacontenttype", {"const": JSON}
    yield "dataschema", {**_TEXT, "format": "uri", "pattern": f"/schemas/{kind}/{schema}$"}
    yield "version", {"type": "integer", "minimum": 1, "description": "Of the account."}
    yield "position", {**_TEXT, "maxLength": LONGEST, "description": "Where to go on after it."}
    for each in ("correlationid", "causationid", "traceparent"):
        yield each, _TEXT


STREAM_CONTRACT: Final = web.AppKey("stream contract", StreamContract)


@routes.get("/asyncapi.json")
@open_to_all
@operation(json(dict[str, object]))
async def asyncapi(request: web.Request) -> web.Response:
    """The stream of events and the feed, as an AsyncAPI 3 document."""
    return reply(request.app[STREAM_CONTRACT].document)
