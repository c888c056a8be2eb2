"""The one type of text that people write: owners, reasons, names of keys, words to search for.

    Owner = Annotated[str, Text(200)]

A text is composed (Unicode's form NFC), so equal texts are equal strings. It is not blank, has no
characters that control a terminal, a log or the direction of what stands beside it, and has a
greatest length, in code points of the composed form.
"""

import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipeline.model.visible import CONTROLS

_MOST_PARTS: Final = 4
"""Code points that one composed character may consist of when it is decomposed."""
_FILLERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that show nothing."""


class InvalidText(ValueError):
    """Why it is no text to accept, as a sentence without its full stop."""


def checked(text: str, longest: int, *, blank: bool = False) -> str:
    """The composed text; raises `InvalidText`. `blank`: it may be blank, but not empty."""
    # First: composing a long text of marks takes time in the square of its length.
    if len(text) > _MOST_PARTS * longest:
        raise InvalidText(f"Must have at most {longest} characters")
    composed = unicodedata.normalize("NFC", text)
    if len(composed) > longest:
        raise InvalidText(f"Must have at most {longest} characters")
    if CONTROLS.search(composed):
        raise InvalidText(
            "Must have no control characters, nor any that turn the direction of text"
        )
    if not (composed if blank else any(map(_shows, composed))):
        raise InvalidText("Must not be blank")
    return composed


def forms(text: str) -> tuple[str, ...]:
    """The text composed and, if that differs, decomposed: older events may have either."""
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    return (composed,) if composed == decomposed else (composed, decomposed)


@dataclass(frozen=True, slots=True)
class Text:
    """Annotates a `str` of a pydantic model, which then is `checked`; `longest` in code points."""

    longest: int
    blank: bool = False

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._validated, handler(str))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "minLength": 1, "maxLength": self.longest}

    def _validated(self, text: str) -> str:
        try:
            return checked(text, self.longest, blank=self.blank)
        except InvalidText as error:
            raise PydanticCustomError("text", "{why}", {"why": str(error)}) from None


def _shows(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNPS" and char not in _FILLERS
