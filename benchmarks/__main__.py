"""`python -m benchmarks`: measures, keeps the figures and writes docs/performance.md."""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import (
    apart,
    forwarding,
    growth,
    idle,
    latency,
    listing,
    machine,
    ordinary,
    over_http,
    projecting,
    read_side,
    rebuilding,
    report,
    scaling,
    whole,
    write_path,
)
from benchmarks.bank import Bank, NotEmpty, bank, given_urls
from benchmarks.checkout import HERE, Checkout, checkout
from benchmarks.figures import Result
from benchmarks.size import FULL, QUICK, SIZES, Size

Measure = Callable[[Bank, Size], Awaitable[Result]]
Keep = Callable[[dict[str, Any]], None]

MEASURES: Final[dict[str, tuple[str, Measure]]] = {
    "a": (write_path.TITLE, write_path.measure),
    "b": (forwarding.TITLE, forwarding.measure),
    "c": (projecting.TITLE, projecting.measure),
    "d": (rebuilding.TITLE, rebuilding.measure),
    "e": (latency.TITLE, latency.measure),
    "f": (growth.TITLE, growth.measure),
    "g": (scaling.TITLE, scaling.measure),
    "h": (whole.TITLE, whole.measure),
    "i": (read_side.TITLE, read_side.measure),
    "j": (ordinary.TITLE, ordinary.measure),
    "k": (over_http.TITLE, over_http.measure),
    "l": (idle.TITLE, idle.measure),
    "m": (listing.TITLE, listing.measure),
}


OF_ROLES: Final = "ijklm"
"""All that is measured of these is in processes of their own; a checkout beside this one gives its
processes only. The others it measures by itself."""


async def measured(run: Bank, letter: str, size: Size, given: Mapping[str, str]) -> dict[str, Any]:
    """One measure, with when and how it was taken."""
    title, measure = MEASURES[letter]
    before, began = machine.load(), time.monotonic()
    taken = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if run.beside and letter not in OF_ROLES:
        await run.wipe()
        result = await apart.in_turns(letter, size, given, run.beside)
    else:
        result = await measure(run, size)
    commits = {"before": run.beside.commit, "now": HERE.commit} if run.beside else {}
    return {
        "title": title,
        "size": size.name,
        "taken": taken,
        "seconds": round(time.monotonic() - began, 1),
        "load_average": {"before": before, "after": machine.load()},
        **({"commits": commits} if commits else {}),
        **result.json(),
    }


async def run(
    letters: Sequence[str],
    size: Size,
    given: dict[str, str],
    keep: Keep = lambda _: None,
    beside: Checkout | None = None,
) -> dict[str, Any]:
    """The measures one after another, on the same servers; `keep` gets each when it is taken.

    One that fails holds up none of the others: it is told, and missing.
    """
    console = Console()
    found: dict[str, Any] = {}
    async with bank(given, beside) as servers:
        settings = await servers.fresh()
        told = {
            "machine": machine.machine(),
            "servers": await machine.versions(settings, servers.embedded),
        }
        for letter in letters:
            try:
                found[letter] = await measured(servers, letter, size, given)
            except Exception:
                console.print(f"({letter}) could not be measured", style="bold red")
                console.print_exception(max_frames=4)
                continue
            show(console, letter, found[letter])
            keep({**told, "measures": {letter: found[letter]}})
    return {**told, "measures": found}


def show(console: Console, letter: str, found: dict[str, Any]) -> None:
    """A measure in the terminal, as soon as it is taken."""
    console.print(f"({letter}) {found['title']}, {found['seconds']} s", style="bold")
    for name, figure in found["figures"].items():
        console.print(f"  {name}: {report.number(figure['median'])} {figure['unit']}")
    for name, spread in found["spreads"].items():
        percents = ", ".join(f"{p} {report.number(spread[p])}" for p in spread if p[0] == "p")
        console.print(f"  {name}: {percents} ms, {spread['count']} samples")
    for name, unit, before, now, times in report.compared(found):
        console.print(f"  before {before}, now {now}, {times} times: {name} {unit}")
    for name, ratio in found["ratios"].items():
        verdict = {True: ", goal met", False: ", goal MISSED"}.get(ratio.get("met"), "")
        console.print(f"  {name}: {ratio['value']}{verdict}")


def _checkout(folder: str) -> Checkout:
    try:
        return checkout(Path(folder))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog="Servers by URL: see bank.py."
    )
    parser.add_argument("measures", nargs="*", help=f"some of {' '.join(MEASURES)}; else all")
    parser.add_argument("--size", choices=SIZES, default=FULL.name)
    parser.add_argument("--quick", action="store_const", dest="size", const=QUICK.name)
    parser.add_argument("--real", action="store_true", help="on servers by URL, as a column apart")
    parser.add_argument(
        "--beside", metavar="FOLDER", type=_checkout, help="measure that checkout too, in turns"
    )
    parser.add_argument("--show", action="store_true", help="only show the figures, keep nothing")
    asked = parser.parse_args()
    if unknown := set(asked.measures) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    given = given_urls() if asked.real else {}
    if asked.real and not given:
        parser.error("--real: name at least one server, as BANK_TEST_ELASTICSEARCH_URL does")
    column = "real" if asked.real else "embedded"

    def keep(found: dict[str, Any]) -> None:
        report.write(report.merged(report.read(), column, found))

    letters = sorted(set(asked.measures)) or list(MEASURES)
    kept = (lambda _: None) if asked.show else keep
    try:
        found = asyncio.run(run(letters, SIZES[asked.size], given, kept, asked.beside))
    except NotEmpty as reason:
        parser.exit(2, f"{reason}\n")
    if missing := set(letters) - set(found["measures"]):
        parser.exit(1, f"not measured: {', '.join(sorted(missing))}\n")


if __name__ == "__main__":
    main()
