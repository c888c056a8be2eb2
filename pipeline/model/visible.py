"""The characters that control what shows a text, and texts with those made visible."""

import re
from typing import Final

_NONCHARACTERS: Final = "".join(
    f"{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
CONTROLS: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f\u2028\u2029"  # of terminals and lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # of the direction of text
    "\ufeff\ufff9-\ufffb"  # marks that show nothing
    f"\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}"  # no characters
    "]"
)
_IN_LINES: Final = frozenset("\n\t")


def visible(text: str, *, lines: bool = False) -> str:
    """The text with its controls as escapes, for terminals and logs; `lines`: it may have several,
    and tabs. They are JSON's, so JSON stays what it was."""
    return CONTROLS.sub(lambda found: _escaped(found[0], lines), text)


def _escaped(char: str, lines: bool) -> str:
    if lines and char in _IN_LINES:
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
