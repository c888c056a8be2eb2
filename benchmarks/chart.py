"""The figures as bars: one panel for each measure, drawn as SVG without any library; pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 900
LABELS: Final = 330
"""Pixels at the left for names; bars and their numbers have the rest."""
BARS: Final = 440
ROW: Final = 18
HEAD: Final = 34
COLOURS: Final = {"embedded": "#4477aa", "real": "#cc6677"}

Bar = tuple[str, str, float]
"""Name, column, value."""


def chart(report: Mapping[str, Any]) -> str:
    """An SVG of all measures of the report, each panel with a scale of its own."""
    lines: list[str] = []
    top = 10
    for title, unit, bars in _panels(report):
        lines += _panel(top, f"{title}, {unit}", bars)
        top += HEAD + ROW * len(bars)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 30}" '
        f'viewBox="0 0 {WIDTH} {top + 30}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{WIDTH}" height="{top + 30}" fill="white"/>'
    return "\n".join([head, ground, *lines, *_legend(top + 18, report), "</svg>\n"])


def _panels(report: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Bar]]]:
    """Title, unit and bars of each panel that has any: rates, and of spreads the p50 and p99."""
    columns = report["columns"]
    letters = sorted({letter for found in columns.values() for letter in found["measures"]})
    for letter in letters:
        found = {
            c: told["measures"][letter] for c, told in columns.items() if letter in told["measures"]
        }
        title = f"({letter}) {next(iter(found.values()))['title']}"
        rates = [
            (name, column, figure["median"])
            for column, told in found.items()
            for name, figure in told["figures"].items()
            if figure["unit"] == "events/s"
        ]
        if rates:
            yield title, "events/s", sorted(rates, key=lambda bar: _place(rates, bar))
        times = [
            (f"{name}, {percent}", column, spread[percent])
            for column, told in found.items()
            for name, spread in told["spreads"].items()
            for percent in ("p50", "p99")
        ]
        if times:
            yield title, "ms", sorted(times, key=lambda bar: _place(times, bar))


def _place(bars: list[Bar], bar: Bar) -> int:
    """Bars of one name stand together, in the order in which names come first."""
    return [name for name, *_ in bars].index(bar[0])


def _panel(top: int, title: str, bars: list[Bar]) -> Iterator[str]:
    most = max(value for *_, value in bars) or 1.0
    yield f'<text x="10" y="{top + 16}" font-weight="bold">{escape(title)}</text>'
    for row, (name, column, value) in enumerate(bars):
        y = top + HEAD - 10 + row * ROW
        width = BARS * value / most
        said = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        yield f'<text x="{LABELS}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
        yield (
            f'<rect x="{LABELS + 8}" y="{y + 2}" width="{width:.1f}" height="{ROW - 5}" '
            f'fill="{COLOURS[column]}"/>'
        )
        yield f'<text x="{LABELS + 14 + width:.1f}" y="{y + 12}">{said}</text>'


def _legend(y: int, report: Mapping[str, Any]) -> Iterator[str]:
    for place, column in enumerate(report["columns"]):
        x = LABELS + 8 + 130 * place
        yield f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{COLOURS[column]}"/>'
        yield f'<text x="{x + 18}" y="{y}">{column}</text>'
