"""The plain form of a text: how people look for it and where they expect it in a list. Pure.

    plain("Élise  Weiß") == "elise weiss"

Elasticsearch has analyzers for that, but not every distribution of it has them: so documents hold
the plain form, and who searches makes the same of the words.
"""

import unicodedata
from typing import Final

LONGEST: Final = 4000
"""Characters that are kept: more than any name of an account has, and less than a keyword may."""

_LETTERS: Final = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ŧ": "t",
        "ŋ": "n",
        "ı": "i",
        "ĸ": "k",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "’": "'",
        "‐": "-",
    }
)
"""Letters that Unicode does not decompose, and what people type who lack the key for them."""


def plain(text: str) -> str:
    """Without marks, case and ligatures, with single spaces; the plain form of that is itself."""
    if text.isascii():
        return " ".join(text.lower().split())[:LONGEST]
    # Both twice: some letters have marks only in one case, and some marks are of more letters.
    for _ in range(2):
        decomposed = unicodedata.normalize("NFKD", text.casefold())
        bare = "".join(each for each in decomposed if not unicodedata.combining(each))
        text = bare.translate(_LETTERS)
    return " ".join(unicodedata.normalize("NFC", text).split())[:LONGEST]
