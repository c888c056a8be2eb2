"""Python types as JSON Schema in the dialect of OpenAPI 3.1, made by pydantic."""

from collections.abc import Iterable, Mapping
from typing import (
    Any,
    Final,
    Generic,
    NotRequired,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from typing_extensions import TypedDict

Schema = dict[str, Any]

T = TypeVar("T")

_REF: Final = "#/components/schemas/{model}"


class Page(TypedDict, Generic[T]):
    """Some of a list, in order; `has_more`: others follow, from `next` on."""

    data: list[T]
    has_more: bool
    next: NotRequired[str]


def paged(data: list[Any], after: str | None) -> dict[str, Any]:
    """A `Page`; `after` is the cursor of the next one."""
    page: dict[str, Any] = {"data": data, "has_more": after is not None}
    return page if after is None else {**page, "next": after}


class All(TypedDict, Generic[T]):
    """A whole list."""

    data: list[T]


def readable(shape: Any, name: str = "", /, **more: Any) -> Any:
    """A copy of the standard library's `TypedDict`, which pydantic reads only from Python 3.12 on.

    It has another name, if one is given, and `more` fields that the response adds.
    """
    hints = get_type_hints(shape, include_extras=True)
    fields = {name: _readable(hint) for name, hint in hints.items()}
    # Called by another name: type checkers would analyse a direct call and fail.
    make: Any = TypedDict
    made = make(name or shape.__name__, {**fields, **more}, total=shape.__total__)
    made.__doc__ = shape.__doc__
    return made


def _readable(hint: Any) -> Any:
    """A field's type, with copies of the `TypedDict`s in it."""
    if get_origin(hint) is NotRequired:
        optional: Any = NotRequired
        return optional[_readable(*get_args(hint))]
    return readable(hint) if is_typeddict(hint) else hint


class _Generate(GenerateJsonSchema):
    """A field has its name; a title that repeats it is noise."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Schemas:
    """The schemas of some types, by type, and `components`, which these refer to by name."""

    def __init__(self, taken: Iterable[Any], given: Iterable[Any]) -> None:
        """`taken` are types of requests, `given` those of answers."""
        modes: list[tuple[JsonSchemaMode, Iterable[Any]]] = [
            ("validation", taken),
            ("serialization", given),
        ]
        self._of, definitions = TypeAdapter.json_schemas(
            [(of, mode, TypeAdapter(of)) for mode, types in modes for of in dict.fromkeys(types)],
            ref_template=_REF,
            schema_generator=_Generate,
        )
        self.components: Mapping[str, Schema] = definitions.get("$defs", {})

    def of(self, taken: Any) -> Schema:
        """Of what is read."""
        return self._of[taken, "validation"]

    def given(self, given: Any) -> Schema:
        """Of what is answered."""
        return self._of[given, "serialization"]


def parameters(model: type[BaseModel]) -> list[Schema]:
    """The fields of a model as parameters of the query. None can be null: it is left out."""
    schema = model.model_json_schema(schema_generator=_Generate)
    required = schema.get("required", [])
    return [
        _parameter(name, field, name in required) for name, field in schema["properties"].items()
    ]


def _parameter(name: str, field: Schema, required: bool) -> Schema:
    schema = _never_null(field)
    parameter = {"name": name, "in": "query", "required": required, "schema": schema}
    if about := schema.pop("description", ""):
        parameter["description"] = about
    if schema.get("type") == "array":  # with commas between them
        parameter |= {"style": "form", "explode": False}
    return parameter


def _never_null(field: Schema) -> Schema:
    schema = {k: v for k, v in field.items() if not (k == "default" and v is None)}
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    return {**schema, **kinds[0]} if len(kinds) == 1 else schema
