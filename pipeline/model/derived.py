"""Events as readers have them: each layer is a document of its own over the event that is stored.

What is stored never changes, and its hash is of what is stored. A reader has an event with its
personal fields decrypted (`personal.py`), and in its newest schema (`upcasters.py`).
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

E = TypeVar("E", bound=Mapping[str, Any])


class Derived(dict[str, Any]):
    """An event made of `source`, which is the stored one or another layer."""

    __slots__ = ("source",)

    def __init__(self, event: Mapping[str, Any], source: Mapping[str, Any]) -> None:
        super().__init__(event)
        self.source = source


class Upcast(Derived):
    """In its newest schema."""

    __slots__ = ()


class Opened(Derived):
    """With its personal fields."""

    __slots__ = ()


def as_stored(event: E) -> E:
    """The event below all layers."""
    found: Mapping[str, Any] = event
    while isinstance(found, Derived):
        found = found.source
    return cast(E, found)


def before_upcast(event: E) -> E:
    """The event in the schema in which it is stored, opened if it was."""
    return cast(E, event.source) if isinstance(event, Upcast) else event


def is_opened(event: Mapping[str, Any]) -> bool:
    """Whether one of its layers is `Opened`."""
    return isinstance(before_upcast(event), Opened)
