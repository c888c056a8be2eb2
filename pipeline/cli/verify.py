"""`bank verify`: do the invariants hold on the stores as they are now?"""

import json
from dataclasses import asdict

import click
from rich.text import Text

from pipeline.cli.differences import run_on_stores
from pipeline.cli.formatting import as_json, console, plain_table
from pipeline.cli.repair import check_and_repair, print_repair
from pipeline.cli.running import configured
from pipeline.operations.checker.report import Report
from pipeline.operations.verify import verify as verified
from pipeline.support.settings import Settings


@click.command()
@as_json
@click.option(
    "--patience",
    default=15.0,
    show_default=True,
    help="Seconds in which a document that differs may still come right.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Then repair every document that differs from its events, and check again.",
)
def verify(as_json: bool, patience: float, repair: bool) -> None:
    """Do the invariants hold on the stores as they are now?

    Only reads, while traffic goes on. A document that is behind counts as lag while the stream has
    events for its partition; otherwise it violates invariant 4: an event was lost, or no forwarder
    runs. Exits with 1 when an invariant is violated, with 2 when a server can't be reached.

    --repair writes documents, never events. It needs no worker, and traffic may go on. The exit
    code is that of the second check.

    \b
    Examples:
      bank verify                     check the stores
      bank verify --patience 60       for a bank that is behind
      bank verify --repair            check, repair, check again
    """
    settings = configured("verify")
    if repair:
        raise SystemExit(0 if verify_and_repair(settings, patience, as_json) else 1)
    report = run_on_stores(verified(settings, patience=patience))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        show(report)
    raise SystemExit(0 if report.holds else 1)


def verify_and_repair(settings: Settings, patience: float, as_json: bool) -> bool:
    """Check, repair, check again, and print all of it. Returns whether everything holds at the
    end."""
    before, repair, after = run_on_stores(check_and_repair(settings, patience))
    if as_json:
        repaired = {**asdict(repair), "first": [each.as_json() for each in repair.first]}
        click.echo(json.dumps({**after.as_json(), "repaired": repaired}, indent=1, default=str))
    else:
        show(before)
        print_repair(repair)
        if repair.found:
            show(after)
    return after.holds


def show(report: Report) -> None:
    """Print the verdict on each invariant, and examples of its violations."""
    table = plain_table("", "invariant", "", "figures")
    words = {
        True: Text("holds", "green"),
        False: Text("VIOLATED", "red"),
        None: Text("not judged", "yellow"),
    }
    for verdict in report.verdicts:
        table.add_row(str(verdict.number), verdict.title, words[verdict.holds], verdict.figure)
    out = console()
    out.print(table)
    for verdict in report.verdicts:
        for example in verdict.examples:
            out.print(f"  {verdict.number}: {example}", markup=False, highlight=False)
        if (more := verdict.violations - len(verdict.examples)) > 0:
            out.print(f"  {verdict.number}: and {more:,} more")
    if invalid := report.strays.number:
        out.print(f"{invalid:,} invalid documents beside the events, which no reader uses:")
        for example in report.strays.examples:
            out.print(f"  {example}", markup=False, highlight=False)
