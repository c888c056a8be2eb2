"""The plain form: what people type finds what is written, and lists are in their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.plain import LONGEST, plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Élise", "elise"),
        ("E\u0301lise", "elise"),
        ("Weiß", "weiss"),
        ("WEISS", "weiss"),
        ("  Ada \u00a0 King ", "ada king"),
        ("Łódź", "lodz"),
        ("Ægir Øst", "aegir ost"),
        ("\u0130stanbul", "istanbul"),
        ("\ufb01sh", "fish"),
        ("Ｆｕｌｌ", "full"),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
        ("김철수", "김철수"),
        ("李小龙", "李小龙"),
        ("हिन्दी", "हिनदी"),
        ("[forgotten]", "[forgotten]"),
        ("\u00b4", ""),
    ],
)
def test_what_it_is(text: str, wanted: str) -> None:
    assert plain(text) == wanted


@given(st.text())
def test_it_has_one_itself_and_regards_no_case(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert plain(text.upper()) == plain(text) == plain(text.lower())


def test_names_are_in_order() -> None:
    names = ["Zoë", "Weiß", "Élise", "elf", "Emil", "weiss", "Ångström"]
    wanted = ["Ångström", "elf", "Élise", "Emil", "Weiß", "weiss", "Zoë"]
    assert sorted(names, key=plain) == wanted


def test_it_fits_a_keyword() -> None:
    longest = plain("\ufdfa" * 10_000)
    assert len(longest) == LONGEST
    assert len(longest.encode()) < 32_766
