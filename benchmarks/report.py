"""The report: JSON that is kept, and from it the tables and the chart of docs/performance.md.

A run changes its own column (`embedded` or `real`), and there only what it measured.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.chart import chart

ROOT: Final = Path(__file__).parents[1]
LATEST: Final = ROOT / "benchmarks" / "results" / "latest.json"
PAGE: Final = ROOT / "docs" / "performance.md"
CHART: Final = "performance.svg"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"
COLUMNS: Final = ("embedded", "real")
BUSY: Final = 1.0
"""Processes that want to run before a measure begins: with more, the machine has other work."""


def empty() -> dict[str, Any]:
    """A report of nothing."""
    return {"columns": {}, "ratios": {}, "beside": {}}


def read(path: Path = LATEST) -> dict[str, Any]:
    """What is kept of earlier runs."""
    return dict(json.loads(path.read_text())) if path.exists() else empty()


def merged(report: Mapping[str, Any], column: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """The report with what a run found; `run` has `machine`, `servers` and `measures`."""
    columns = dict(report["columns"])
    known = columns.get(column, {}).get("measures", {})
    found, turns = _parted(run["measures"])
    measures = dict(sorted({**known, **found}.items()))
    columns[column] = {**run, "measures": measures}
    ratios: dict[str, dict[str, Any]] = {}
    for name, found in columns.items():
        for letter, measure in found["measures"].items():
            for ratio, value in measure["ratios"].items():
                ratios.setdefault(ratio, {"measure": letter})[name] = value
    ordered = dict(sorted(ratios.items(), key=lambda each: str(each[1]["measure"])))
    return {
        "ratios": ordered,
        "columns": {each: columns[each] for each in COLUMNS if each in columns},
        "beside": _with_turns(report.get("beside", {}), column, turns),
    }


def _parted(
    measures: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, dict[str, Any]], dict[str, Mapping[str, Any]]]:
    """The measures without what was found of another checkout, and those that have such, whole."""
    own = {
        letter: {key: value for key, value in found.items() if key not in ("before", "commits")}
        for letter, found in measures.items()
    }
    return own, {letter: found for letter, found in measures.items() if "before" in found}


def _with_turns(
    known: Mapping[str, Any], column: str, turns: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What is kept of comparisons with another checkout: without samples, which are many."""
    kept = {
        letter: {
            "title": found["title"],
            "size": found["size"],
            "taken": found["taken"],
            "load_average": found["load_average"],
            "commits": found["commits"],
            "rows": [list(row) for row in compared(found)],
        }
        for letter, found in turns.items()
    }
    return {**known, column: dict(sorted({**known.get(column, {}), **kept}.items()))}


def compared(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, unit, before, now and now / before of all that a measure found of two checkouts."""
    before = found.get("before")
    if before is None:
        return
    for name, ratio in found["ratios"].items():
        if name in before["ratios"]:
            then, _, times = _times(before["ratios"][name]["value"], ratio["value"])
            yield name, _goal(ratio), then, _judged(ratio), times
    for name, figure in found["figures"].items():
        if name in before["figures"]:
            then = before["figures"][name]
            yield name, figure["unit"], *_times(then["median"], figure["median"])
    for name, spread in found["spreads"].items():
        for percent in ("p50", "p99"):
            if name in before["spreads"]:
                then = before["spreads"][name]
                yield f"{name}, {percent}", "ms", *_times(then[percent], spread[percent])


def _times(before: float, now: float) -> tuple[str, str, str]:
    return number(before), number(now), f"{now / before:.2f}" if before else ""


def write(report: Mapping[str, Any], latest: Path = LATEST, page: Path = PAGE) -> None:
    """Keep the report, and put its tables and its chart in the page."""
    latest.parent.mkdir(parents=True, exist_ok=True)
    latest.write_text(_compact(report))
    page.with_name(CHART).write_text(chart(report))
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{tables(report)}\n{END}{after}")


def tables(report: Mapping[str, Any]) -> str:
    """Everything that the page says of the report, as Markdown."""
    parts = [_taken(report), f"![The figures as bars]({CHART})\n", _ratios(report)]
    letters = sorted({each for found in report["columns"].values() for each in found["measures"]})
    parts += [_measure(report, letter) for letter in letters]
    parts += [
        _beside(column, letter, found)
        for column, turns in report.get("beside", {}).items()
        for letter, found in turns.items()
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    """A figure with as many digits as mean anything."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _taken(report: Mapping[str, Any]) -> str:
    text = ""
    for name, found in report["columns"].items():
        machine = found["machine"]
        servers = ", ".join(f"{server} {told}" for server, told in found["servers"].items())
        text += (
            f"**{name}**: {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"Python {machine['python']}; {servers}.\n\n"
        )
    return text


def _ratios(report: Mapping[str, Any]) -> str:
    rows = []
    columns = list(report["columns"])
    for name, told in report["ratios"].items():
        values = [told.get(column) for column in columns]
        goals = [value for value in values if value and "goal" in value]
        goal = _goal(goals[0]) if goals else ""
        rows.append([f"({told['measure']}) {name}", goal, *map(_judged, values)])
    return "### Ratios\n\n" + table(["", "goal", *columns], rows)


def _goal(ratio: Mapping[str, Any]) -> str:
    if "goal" not in ratio:
        return ""
    return f"{'≤' if ratio['at'] == 'most' else '≥'} {ratio['goal']:g}"


def _judged(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not measured"
    verdict = {True: ", met", False: ", **missed**"}.get(value.get("met"), "")  # type: ignore[arg-type]
    return f"{value['value']:.2f}{verdict}"


def _measure(report: Mapping[str, Any], letter: str) -> str:
    found = {
        column: told["measures"][letter]
        for column, told in report["columns"].items()
        if letter in told["measures"]
    }
    title = next(iter(found.values()))["title"]
    text = f"### ({letter}) {title}\n\n"
    if rows := list(_figures(found)):
        text += table(["median of the rounds", "unit", *found], rows) + "\n"
    if rows := list(_spreads(found)):
        text += table(["milliseconds", "", "p50", "p90", "p99", "p99.9", "samples"], rows) + "\n"
    for column, told in found.items():
        text += f"*{column}*: {_when(told)} {' '.join(told['notes'])}\n\n"
    return text


def _beside(column: str, letter: str, found: Mapping[str, Any]) -> str:
    commits = found["commits"]
    head = ["rounds in turns", "goal or unit", commits["before"], commits["now"], "times"]
    return (
        f"### ({letter}) {found['title']}, before and now, {column}\n\n"
        f"{table(head, found['rows'])}\n{_when(found)}\n\n"
    )


def _figures(found: Mapping[str, Any]) -> Iterator[list[str]]:
    names = dict.fromkeys(name for told in found.values() for name in told["figures"])
    for name in names:
        each = [told["figures"].get(name) for told in found.values()]
        unit = next(figure["unit"] for figure in each if figure)
        yield [name, unit, *(number(figure["median"]) if figure else "" for figure in each)]


def _spreads(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for column, told in found.items():
        for name, spread in told["spreads"].items():
            values = [number(spread[p]) for p in ("p50", "p90", "p99", "p99.9")]
            yield [name, column, *values, str(spread["count"])]


def _when(told: Mapping[str, Any]) -> str:
    before = told["load_average"]["before"]
    text = f"{told['taken']}, size {told['size']}, load average {before:g} before it."
    if before > BUSY:
        text += " **The machine was busy with other work: trust the ratios alone.**"
    return text


def _compact(report: Mapping[str, Any]) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False)
    return re.sub(r"\[[\d\s.,eE+-]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"
