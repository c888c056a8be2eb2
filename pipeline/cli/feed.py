"""`bank tail` and `bank events`: events as they come, and those of an account."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import click
import orjson

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, echo
from pipeline.cli.running import complete, configured, run
from pipeline.eventstore import EventStore
from pipeline.model.events import Event, encode, is_id, rfc3339
from pipeline.model.visible import visible
from pipeline.operations.feed.cloud_events import encoded
from pipeline.operations.feed.position import InvalidPosition, Position
from pipeline.operations.feed.reader import MOST, Feed, FeedPage
from pipeline.support.settings import Settings

_EVERY: Final = 0.2


def _account(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is not None and not is_id(given):
        raise click.BadParameter("1 to 64 letters, digits, _ and -")
    return given


def _after(_: click.Context, __: click.Parameter, given: str) -> Position | str:
    if given in ("beginning", "now"):
        return given
    try:
        return Position.parse(given)
    except InvalidPosition as error:
        raise click.BadParameter(f"{error}, beginning or now") from None


@click.command()
@click.option("--account", callback=_account, metavar="ID", help="Only events of this account.")
@click.option("--kinds", default="", metavar="KIND,…", help="Only events of these kinds.")
@click.option(
    "--after",
    callback=_after,
    default="now",
    show_default=True,
    metavar="PLACE",
    help="beginning, now, or the position of an event that --json has shown.",
)
@as_json
def tail(account: str | None, kinds: str, after: Position | str, as_json: bool) -> None:
    """Print events as they come, until Ctrl-C: the feed of the balance service.

    It reads NATS and, where the log has not all, MongoDB; it needs no key. Each event comes at
    least once, each account's in order of its versions. With --json each line is a CloudEvents
    object.

    \b
    Examples:
      bank tail                                  what happens from now on
      bank tail --kinds MoneyDeposited           only deposits
      bank tail --account ID --json              an account's, as JSON
      bank tail --after beginning --json         all there are, and then what comes
    """
    settings = configured("tail")
    run(_tail(settings, account, [*filter(None, kinds.split(","))], after, as_json), exit_code=0)


async def _tail(
    settings: Settings,
    account: str | None,
    kinds: list[str],
    after: Position | str,
    as_json: bool,
) -> None:
    def wanted(event: Event) -> bool:
        of_account = account is None or event["account_id"] == account
        return of_account and (not kinds or event.get("kind") in kinds)

    store = EventStore(settings.mongodb, settings.mongodb_database)
    try:
        async with jetstream(settings) as js:
            feed = Feed(js, store)
            if not isinstance(after, Position):
                begin = feed.beginning if after == "beginning" else feed.end
                after = await until_answered(begin)
            while True:
                page = await until_answered(partial(feed.page, after, MOST, wanted))
                for line in _lines(page, settings, as_json):
                    echo(line)
                after = page.position
                if not page.more:
                    await asyncio.sleep(_EVERY)
    finally:
        await store.close()


def _lines(page: FeedPage, settings: Settings, as_json: bool) -> Iterable[str]:
    if not as_json:
        return [_text(item.event) for item in page.items]
    schemas = f"http://{settings.host}:{settings.balances_port}/schemas"
    return [line.decode() for line in encoded(page.items, settings.names.application, schemas)]


@click.command()
@click.argument("account", metavar="ID", callback=_account)
@as_json
def events(account: str, as_json: bool) -> None:
    """Print the events of an account, as the event store has them.

    With --json each line is an event, in the schema that it was stored in.

    \b
    Examples:
      bank events ID                             a line for each event
      bank events ID --json                      as JSON
    """
    complete(_events(configured("events"), account, as_json))


async def _events(settings: Settings, account: str, as_json: bool) -> None:
    store, after = EventStore(settings.mongodb, settings.mongodb_database), 0
    try:
        while found := await store.page(account, after=after, limit=MOST):
            for event in found:
                echo(_json(event) if as_json else _text(event))
            after = int(found[-1]["version"])
    finally:
        await store.close()
    if not after:
        raise CommandFailed(f"no event of {account}")


def _json(event: Event) -> str:
    try:
        return encode(event).decode()
    except TypeError as error:  # somebody has written it by hand
        raise CommandFailed(f"version {event['version']} is no JSON: {error}") from None


def _text(event: Mapping[str, Any]) -> str:
    """A line for people."""
    body = orjson.dumps(event.get("body"), default=str).decode()
    when = event.get("created_at")
    at = rfc3339(when) if isinstance(when, str | datetime) else "-"
    return visible(
        f"{at}  {event['account_id']}  {event['version']:>4}  {event.get('kind')}  {body}"
    )
