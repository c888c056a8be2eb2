"""Models of the bodies of commands, made of the type hints of their dataclasses.

A body has `command`, the name of the dataclass, beside its fields: `str` (a text of at most
`LONGEST`), `int` (within 2^53), `bool`, a `Literal`, `None` for what may be null, lists and tuples
of these; `Annotated` with pydantic's or our own constraints narrows any, and a text's greatest
length may be more. A field with a default may be left out.
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Discriminator, RootModel, Strict, TypeAdapter, create_model
from pydantic import Field as ModelField

from api.http.inputs import OPTIONAL, Input, invalid, validated
from pipeline.model.text import Text

LONGEST: Final = 1000
"""Code points of a text that says nothing else."""
MOST: Final = 2**53
"""Integers stay within it, so that they are exact in every JSON reader."""

_PREFIX: Final = "of_"
"""Of the models' own names of fields: no field may hide what every model has."""
_ANNOTATED: Final[Any] = Annotated
_UNION: Final[Any] = Union


class CommandBodies:
    """Those of the commands to one aggregate, or of one joint command.

    Raises `TypeError` for a field of another type.
    """

    def __init__(self, name: str, commands: Mapping[str, type[Any]]) -> None:
        self._commands = commands
        self._models = {
            each: _model_of(_worded(name, each), command) for each, command in commands.items()
        }
        one: Any = _UNION[tuple(self._models.values())]
        if len(self._models) > 1:
            one = _ANNOTATED[one, Discriminator("command")]
        self.described: Any = create_model(_worded(name, "command"), __base__=RootModel[one])
        """All of them as one model, for the description: its errors have no pointers."""

    def validated(self, body: Any) -> Input:
        """The body as the model of its command; problem 400."""
        name = body.get("command") if isinstance(body, dict) else None
        if not isinstance(name, str) or name not in self._models:
            known = " or ".join(self._models)
            raise invalid([{"pointer": "#/command", "detail": f"Must be {known}"}])
        return validated(body, self._models[name])

    def command(self, given: Input) -> Any:
        """The command of a validated body; problem 400 for what the dataclass itself refuses."""
        values = {
            name.removeprefix(_PREFIX): getattr(given, name)
            for name in given.model_fields_set
            if name.startswith(_PREFIX)
        }
        try:
            return self._commands[str(getattr(given, "command", ""))](**values)
        except (TypeError, ValueError) as error:
            raise invalid([{"pointer": "#", "detail": str(error).rstrip(".")}]) from error


def _worded(*names: str) -> str:
    """`ParcelScan` of `parcel` and `Scan`."""
    return "".join(each[:1].upper() + each[1:] for name in names for each in name.split("_"))


def _model_of(name: str, command: type[Any]) -> type[Input]:
    hints = get_type_hints(command, include_extras=True)
    given: dict[str, Any] = {"command": (Literal[command.__name__], ...)}
    for each in fields(command):
        where = f"{command.__name__}.{each.name}"
        if each.name in given:
            raise TypeError(f"{where}: a body has `command` already")
        if each.init:
            given[_PREFIX + each.name] = (_checked(hints[each.name], where), _model_field(each))
    # Annotations like a model's own: what it is for stands in the dataclass.
    return create_model(name, __base__=Input, __doc__=_about(command), **given)


def _about(command: type[Any]) -> str | None:
    """Its docstring, unless that is what `dataclass` makes."""
    made = f"{command.__name__}("
    return None if (command.__doc__ or made).startswith(made) else command.__doc__


def _model_field(field: Field[Any]) -> Any:
    if field.default is MISSING and field.default_factory is MISSING:
        return ModelField(alias=field.name)
    # The dataclass has the default: the model only notes that the field was left out.
    return ModelField(None, alias=field.name, json_schema_extra=OPTIONAL.json_schema_extra)


def _checked(hint: Any, where: str) -> Any:
    """What pydantic checks for a type hint."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is str:
        return Annotated[str, Text(LONGEST)]
    if hint is int:
        return Annotated[int, ModelField(gt=-MOST, lt=MOST)]
    if hint is bool or hint is type(None) or origin is Literal:
        return hint
    if origin is Annotated and args[0] is str:
        longest = TypeAdapter(hint).json_schema().get("maxLength", LONGEST)
        return _ANNOTATED[(str, Text(longest), *hint.__metadata__)]
    if origin is Annotated:
        return _ANNOTATED[(_checked(args[0], where), *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        return _UNION[tuple(_checked(each, where) for each in args)]
    if origin in (list, Sequence):
        return list[_checked(args[0], where)]  # type: ignore[misc]
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _ANNOTATED[tuple[_checked(args[0], where), ...], Strict(False)]  # type: ignore[misc]
    raise TypeError(f"{where}: HTTP takes str, int, bool, None and lists of them, not {hint}")
