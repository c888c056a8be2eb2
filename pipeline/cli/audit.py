"""`bank audit`: prints the audit log."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Final

import click

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.formatting import as_json, echo
from pipeline.cli.running import complete, configured, run
from pipeline.cli.spans import span
from pipeline.messaging.answers import ELECTION
from pipeline.operations.audit import ACTIONS, AuditLine, matches, read
from pipeline.support.settings import Settings

_EVERY: Final = 0.5


def _since(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        if (ago := span(given)) is not None:
            return datetime.now(UTC) - ago
        moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter("30d, 12h or 45m, or a time such as 2026-01-31T12:00:00Z")
    return moment


@click.command()
@click.option(
    "--since", callback=_since, metavar="WHEN", help="30d, 12h or 45m ago, or as in RFC 3339."
)
@click.option("--actor", default="", metavar="WHO", help="A key's id, a user, or a role.")
@click.option(
    "--action", "actions", multiple=True, type=click.Choice(ACTIONS), help="Can be repeated."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@as_json
def audit(
    since: datetime | None, actor: str, actions: tuple[str, ...], follow: bool, as_json: bool
) -> None:
    """Print the audit log: keys, rebuilds, repairs and the like, and who did it.

    With --json each line is a JSON object.

    \b
    Examples:
      bank audit --since 7d                      the last week
      bank audit --action key-refused --json     refused requests, as JSON
      bank audit --actor 6f1c9a0e5b7d2c48        what a key was used for
      bank audit --follow                        what happens now, too
    """
    settings = configured("audit")
    printing = _print(settings, since, actor, actions, follow=follow, as_json=as_json)
    if follow:
        run(printing, exit_code=0)
    else:
        complete(printing)


async def _print(
    settings: Settings,
    since: datetime | None,
    actor: str,
    actions: tuple[str, ...],
    *,
    follow: bool,
    as_json: bool,
) -> None:
    async with jetstream(settings) as js:
        last, stream = 0, ""

        async def print_new() -> None:
            nonlocal last, stream
            state = await js.state(js.names.audit)
            if state is not None and (state.created != stream or state.last < last):
                last, stream = 0, state.created  # a new one numbers its messages anew
            async for sequence, line in read(js, since, after=last):
                last = sequence
                if matches(line, actor, actions):
                    echo(json.dumps(line) if as_json else _text(line))

        await until_answered(print_new, seconds=ELECTION)
        while follow:
            await asyncio.sleep(_EVERY)
            await until_answered(print_new)


def _text(line: AuditLine) -> str:
    """A line for people; control characters, which anybody may have written, are escaped."""
    actor = line["actor"]
    who = actor.get("key") or actor.get("user") or "-"
    more = f"  (and {line['omitted']} more)" if line.get("omitted") else ""
    cells = (line["time"], line["action"], who, actor["role"], line["target"], line["outcome"])
    printed = "  ".join(f"{cell}" for cell in cells) + more
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in printed)
