"""The text that people write: composed, visible, without controls, and of a bounded length."""

import unicodedata
from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline.model.text import InvalidText, Text, checked, forms

CONTROLS = [
    *map(chr, (0, 7, 9, 10, 13, 27, 127, 0x85, 0x9B, 0x2028, 0x2029, 0xD800, 0xDFFF)),
    *map(chr, (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *map(chr, (0x206A, 0x206F, 0xFEFF, 0xFFF9, 0xFFFB)),
    *map(chr, (0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF)),
]
BLANK = ["", " ", "\u00a0", "\u3000 ", "\u200b", "\u200d", "\u0301", "\u3164", "\u2800", "\u115f"]
SOUND = [
    "Ada", "O'Brien & Søn", "李小龙", "شركة النور", "בנק", "👩\u200d🚀", "می\u200cخواهم", "…",
]  # fmt: skip


@pytest.mark.parametrize("char", CONTROLS, ids=ascii)
def test_no_controls(char: str) -> None:
    with pytest.raises(InvalidText, match="no control"):
        checked(f"Ada{char}", 200)


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_not_blank(text: str) -> None:
    with pytest.raises(InvalidText, match="blank"):
        checked(text, 200)


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_stays(text: str) -> None:
    assert checked(text, 200) == text


def test_it_is_composed() -> None:
    assert checked("Zoe\u0308", 200) == "Zo\u00eb"
    assert checked("\u212bngstr\u00f6m", 200) == "\u00c5ngstr\u00f6m"


def test_its_length_is_that_of_the_composed_code_points() -> None:
    assert len(checked("🦌" * 200, 200)) == 200
    assert len(checked("e\u0301" * 200, 200)) == 200
    for text in ("a" * 201, "🦌" * 201, "e\u0301" * 201):
        with pytest.raises(InvalidText, match="at most 200"):
            checked(text, 200)


def test_no_text_is_composed_to_more_than_was_looked_at() -> None:
    every = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
    assert max(len(unicodedata.normalize("NFD", each)) for each in every) == 4


def test_a_long_text_is_refused_before_it_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.model.text.unicodedata", None)
    with pytest.raises(InvalidText, match="at most"):
        checked("a" + "\u0301\u0323" * 500, 200)


def test_the_forms_to_search_for() -> None:
    assert forms("Zo\u00eb") == forms("Zoe\u0308") == ("Zo\u00eb", "Zoe\u0308")
    assert forms("Ada") == ("Ada",)


class Named(BaseModel):
    name: Annotated[str, Text(5)]


def test_as_the_type_of_a_field() -> None:
    assert Named(name="Zoe\u0308").name == "Zo\u00eb"
    with pytest.raises(ValidationError, match="Must have at most 5 characters"):
        Named(name="abcdef")
    schema = TypeAdapter(Named).json_schema()["properties"]["name"]
    assert (schema["type"], schema["minLength"], schema["maxLength"]) == ("string", 1, 5)
