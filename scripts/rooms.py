"""Draws the rooms of the house from the imports: writes docs/rooms.svg.

    python scripts/rooms.py

A room is a package of `pipeline`, its module `app`, or `api`. A line leads from a room down to one
that it imports; a line is left out where others already lead there. A room stands one floor above
the highest room that it imports. Run this when a test says that the drawing is out of date.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
from house import ROOT, imported, modules

DRAWING: Final = ROOT / "docs" / "rooms.svg"

_COLUMNS: Final = {
    "cli": 2.75,
    "testing": -0.1,
    "api": -0.6,
    "embedded": 1.1,
    "operations": 0.25,
    "app": 2.1,
    "agents": 2.1,
    "tables": 1.6,
    "forwarder": 3.25,
    "processes": 0.6,
    "coordination": 2,
    "bridge": 2,
    "commands": -0.6,
    "search": 0.9,
    "messaging": 2,
    "eventstore": 3.25,
    "banking": 0.1,
    "support": 2,
    "application": 1.1,
    "model": 1.1,
}
"""Where a room stands on its floor, chosen so that no line runs behind another room."""

_COLUMN, _FLOOR, _WIDTH, _HEIGHT, _MARGIN = 150, 58, 112, 30, 16
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24;text-anchor:middle}"
    ".room{fill:#eef3f8;stroke:#51657a}"
    "path{stroke:#51657a;marker-end:url(#arrow)}"
)
_ARROW: Final = (
    '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0L8 4L0 8Z" style="fill:#51657a;stroke:none;marker-end:none"/>'
    "</marker>"
)

Imports = dict[str, set[str]]
"""The rooms that a room imports, by the room."""


def imports() -> Imports:
    """Which room imports which, found in the source."""
    known = {**modules(ROOT / "pipeline"), **modules(ROOT / "api")}
    found: Imports = {room_of(name): set() for name in known if room_of(name)}
    for name, path in known.items():
        if room := room_of(name):
            others = {room_of(each) for each in imported(name, path, known)}
            found[room] |= others - {room, ""}
    return found


def room_of(module: str) -> str:
    """`api`, or the name below `pipeline`; the packages' own `__init__.py` belong to no room."""
    top, _, rest = module.partition(".")
    return top if top == "api" else rest.partition(".")[0]


def direct(rooms: Imports) -> Imports:
    """The imports without those that a path over other rooms stands for."""

    @cache
    def below(room: str) -> frozenset[str]:
        return frozenset(rooms[room]).union(*(below(each) for each in rooms[room]))

    return {
        room: {each for each in found if not any(each in below(other) for other in found)}
        for room, found in rooms.items()
    }


def drawing(rooms: Imports) -> str:
    """The SVG. Raises `RecursionError` when rooms import each other in a circle."""

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(each) for each in rooms[room]), default=-1)

    top = max(floor(room) for room in rooms)
    places = {
        room: (_x(room), _MARGIN + _HEIGHT / 2 + (top - floor(room)) * _FLOOR)
        for room in sorted(rooms)
    }
    width = max(x for x, _ in places.values()) + _WIDTH / 2 + _MARGIN
    height = top * _FLOOR + _HEIGHT + 2 * _MARGIN
    lines = [
        _line(places[room], places[each])
        for room, found in sorted(direct(rooms).items())
        for each in sorted(found)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img">',
            "<title>The rooms: a line leads down to each room that a room imports</title>",
            f"<style>{_STYLE}</style>",
            f'{_ARROW}<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
            *lines,
            *(_box(room, *place) for room, place in places.items()),
            "</svg>\n",
        ]
    )


def _x(room: str) -> float:
    return _MARGIN + _WIDTH / 2 + (_COLUMNS[room] - min(_COLUMNS.values())) * _COLUMN


def _box(name: str, x: float, y: float) -> str:
    left, top = x - _WIDTH / 2, y - _HEIGHT / 2
    size = f'width="{_WIDTH}" height="{_HEIGHT}" rx="5"'
    return (
        f'<rect class="room" x="{left:g}" y="{top:g}" {size}/>'
        f'<text x="{x:g}" y="{y + 4.5:g}">{name}</text>'
    )


def _line(above: tuple[float, float], below: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = above, below
    return f'<path d="M{x1:g} {y1 + _HEIGHT / 2:g}L{x2:g} {y2 - _HEIGHT / 2:g}"/>'


if __name__ == "__main__":
    DRAWING.write_text(drawing(imports()), encoding="utf-8")
