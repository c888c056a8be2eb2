"""`bank rebuild`: rebuilds the projection from the event store, under live traffic."""

import json
import sys

import click

from pipeline.cli import rebuild_jobs
from pipeline.cli.differences import dry_run as compare
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, console, echo
from pipeline.cli.projection_option import of_projection, target
from pipeline.cli.rebuild_formatting import listing, outcome, summary, table
from pipeline.cli.rebuild_jobs import Found
from pipeline.cli.repair import repair_account
from pipeline.cli.running import complete
from pipeline.coordination.partitioning import MOST
from pipeline.operations.rebuild_requests import Asked
from pipeline.operations.status.rebuild_progress import as_json as progress


@click.group(invoke_without_command=True)
@click.option(
    "--partition",
    "partitions",
    multiple=True,
    metavar="P",
    type=click.IntRange(0, MOST - 1),
    help="Only this partition, in place. Can be repeated.",
)
@click.option(
    "--account", "account_id", metavar="ID", help="Only this account, at once and by this process."
)
@click.option("--in-place", is_flag=True, help="In the live generation instead of a new one.")
@click.option("--dry-run", is_flag=True, help="Only compare, and print what differs.")
@click.option(
    "--max-concurrent",
    metavar="N",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST),
    help="Partitions that each worker replays at a time.",
)
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Show the progress to the end (default in a terminal), or print the id and exit.",
)
@of_projection
@as_json
@click.pass_context
def rebuild(
    ctx: click.Context,
    partitions: tuple[int, ...],
    account_id: str | None,
    in_place: bool,
    dry_run: bool,
    max_concurrent: int,
    wait: bool | None,
    as_json: bool,
) -> None:
    """Rebuild the projection from the event store, under live traffic.

    The workers replay the events into a new generation; readers see it when it is complete. If the
    same rebuild is running, this command joins it. Ctrl-C leaves it running. Exits with 1 if the
    rebuild failed or was cancelled; with --account if the document is still wrong; with --dry-run
    if anything differs. --account and --dry-run need no worker.

    \b
    Examples:
      bank rebuild                    all, into a new generation
      bank rebuild --dry-run          what would it change?
      bank rebuild --partition 3      partition 3, in place
      bank rebuild --account ID       one document, at once
      bank rebuild status             show the progress
      bank rebuild cancel             cancel it; readers keep the old generation
    """
    if ctx.invoked_subcommand is not None:
        return
    if account_id is not None and partitions:
        raise click.UsageError("either --account or --partition")
    settings, projection = target("rebuild")
    if dry_run:
        accounts = [account_id] if account_id is not None else []
        differ = compare(
            settings, projection, partitions=partitions, account_ids=accounts, as_json=as_json
        )
        raise SystemExit(1 if differ else 0)
    if account_id is not None:
        raise SystemExit(0 if repair_account(settings, projection, account_id) else 1)
    if partitions and not in_place:
        echo("single partitions are rebuilt in place", err=True)
    asked = Asked(partitions, in_place, max_concurrent)
    wait = sys.stdout.isatty() if wait is None else wait
    found = complete(rebuild_jobs.start(settings, projection, asked, wait=wait))
    if wait:
        _show_end(found, as_json)
    else:
        echo(_json(found) if as_json else found[0].id)


@rebuild.command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--wait", is_flag=True, help="Show the progress to the end.")
@as_json
def status(job_id: str | None, wait: bool, as_json: bool) -> None:
    """Show the progress of a rebuild; without ID of the last one.

    \b
    Examples:
      bank rebuild status             the last one, by partition
      bank rebuild status --wait      follow it to the end
      bank rebuild status --json ID   that one, as JSON
    """
    job, parts = complete(rebuild_jobs.find(*target("rebuild"), job_id, wait=wait))
    if wait:
        _show_end((job, parts), as_json)
    elif as_json:
        echo(_json((job, parts)))
    else:
        echo(summary(job))
        console().print(table(job, parts))


@rebuild.command()
@click.argument("job_id", metavar="[ID]", required=False)
def cancel(job_id: str | None) -> None:
    """Cancel a rebuild, without ID the last one; readers keep the old generation.

    A rebuild whose generation readers see already can't be cancelled.

    \b
    Examples:
      bank rebuild cancel             the last one
      bank rebuild cancel ID          that one
    """
    job = complete(rebuild_jobs.cancel(*target("rebuild"), job_id))
    if job.phase != "cancelled":
        raise CommandFailed(f"{summary(job)}; it can't be called off any more")
    echo(summary(job))


@rebuild.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List the last rebuilds, the newest first.

    \b
    Examples:
      bank rebuild list               as a table
      bank rebuild list --json        as JSON
    """
    known = complete(rebuild_jobs.find_all(*target("rebuild")))
    if as_json:
        echo(json.dumps([progress(*each) for each in known], indent=1))
    elif not known:
        echo("nothing was ever rebuilt")
    else:
        console().print(listing(job for job, _ in known))


def _show_end(ended: Found, as_json: bool) -> None:
    """Print the outcome; `CommandFailed` unless the rebuild is done."""
    if as_json:
        echo(_json(ended))
    words = outcome(*ended)
    if not as_json:
        echo(words)


def _json(found: Found) -> str:
    return json.dumps(progress(*found), indent=1)
