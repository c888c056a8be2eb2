"""`bank keys`: creates, lists and revokes API keys of the services."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

import click
from pydantic import ValidationError

from pipeline.cli.connections import jetstream, until_answered
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import as_json, console, echo, plain_table
from pipeline.cli.running import complete, configured
from pipeline.cli.spans import span
from pipeline.messaging import JetStream
from pipeline.messaging.answers import ELECTION
from pipeline.messaging.kv import Bucket, Overtaken
from pipeline.model.text import InvalidText
from pipeline.operations import keys as kept
from pipeline.operations.audit import record
from pipeline.operations.keys import Key, Role
from pipeline.support.settings import Settings

NONE: Final = "there are no keys; `bank keys create` makes one"


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def keys(ctx: click.Context, as_json: bool) -> None:
    """API keys, which the services require if BANK_KEYS is on.

    Without a subcommand, lists them. Secrets are not stored, so no key can be shown again.

    \b
    Examples:
      bank keys                                  list the keys
      bank keys create --role teller             create a key for commands
      bank keys revoke ID                        revoke a key
    """
    if ctx.invoked_subcommand is None:
        _list(as_json)


@keys.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List all keys, without their secrets.

    \b
    Examples:
      bank keys list                  as a table
      bank keys list --json           as JSON
    """
    _list(as_json)


def _moment(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    if given is None:
        return None
    moment = _later(given)
    if moment is None or moment.tzinfo is None or moment <= datetime.now(UTC):
        raise click.BadParameter("30d, 12h or 45m, or a time to come such as 2030-01-31T12:00:00Z")
    return moment


def _later(given: str) -> datetime | None:
    try:
        if (later := span(given)) is not None:
            return datetime.now(UTC) + later
        return datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        return None


@keys.command()
@click.option("--role", required=True, type=click.Choice([each.value for each in Role]))
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="ID",
    help="An account of a customer. Can be repeated.",
)
@click.option("--name", default="", help="The holder, for the list.")
@click.option(
    "--expires",
    callback=_moment,
    metavar="WHEN",
    help="30d, 12h, or as in RFC 3339.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second.")
def create(
    role: str, accounts: tuple[str, ...], name: str, expires: datetime | None, rate: float | None
) -> None:
    """Create a key and print it on stdout. It is never shown again.

    A teller sends commands, a viewer reads, an operator reads and rebuilds, a customer uses the
    accounts given.

    \b
    Examples:
      bank keys create --role viewer --name prometheus       valid until it is revoked
      bank keys create --role teller --expires 30d           valid for 30 days
      bank keys create --role customer --account ID          for one account
    """
    try:
        key, token = kept.new(
            Role(role), accounts=frozenset(accounts), name=name, expires=expires, rate=rate
        )
    except InvalidText as error:
        raise click.UsageError(f"--name: {error}") from None
    except ValidationError as error:
        raise click.UsageError(_faults(error)) from None
    unknown = "interrupted: `bank keys list` shows whether there is one more"
    complete(_put(configured("keys"), key), message=unknown)
    echo(f"Key {key.id} ({role}). It is shown this once:", err=True)
    echo(token)


@keys.command()
@click.argument("key_ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All keys that there are.")
def revoke(key_ids: tuple[str, ...], everyone: bool) -> None:
    """Revoke keys. The services refuse them a moment later.

    \b
    Examples:
      bank keys revoke ID             the id is the middle part of a key
      bank keys revoke ID OTHER       several
      bank keys revoke --all          all of them, also those that can't be read
    """
    if bool(key_ids) == everyone:
        raise click.UsageError("name keys, or give --all")
    unknown = "interrupted: `bank keys list` shows which there are still"
    complete(_revoke(configured("keys"), key_ids), message=unknown)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[JetStream, Bucket]]:
    async with jetstream(settings) as js:
        yield js, kept.bucket(js)


async def _put(settings: Settings, key: Key) -> None:
    async with _opened(settings) as (js, bucket):
        with suppress(Overtaken):  # by ourselves: the answer was lost, and nobody else has the id
            await until_answered(
                lambda: bucket.put(key.id, kept.value(key), expected=0),
                f"Whether the key {key.id} is stored is not known yet",
            )
        await record(js, settings, "key-created", f"{key.id} {key.role}")


async def _revoke(settings: Settings, key_ids: Sequence[str]) -> None:
    """Revoke these, or all if none is named."""
    async with _opened(settings) as (js, bucket):
        entries = await until_answered(bucket.entries, seconds=ELECTION)
        if not key_ids and not entries:
            echo(NONE)
        if unknown := [each for each in key_ids if each not in entries]:
            raise CommandFailed(
                f"there is no key {', '.join(unknown)}; `bank keys` lists those that are"
            )
        for key_id in key_ids or entries:
            known = f"Whether {key_id} is revoked is not known yet"
            await until_answered(partial(bucket.delete, key_id), known)
            echo(f"{key_id}: revoked")
            await record(js, settings, "key-revoked", key_id)


async def _all(settings: Settings) -> list[tuple[Key, str]]:
    """The keys, each with the day of its last use."""
    async with _opened(settings) as (js, bucket):
        entries = await until_answered(bucket.entries, seconds=ELECTION)
        found = [kept.key_of(each) for each in entries.values()]
        uses = await until_answered(partial(kept.last_uses, js), seconds=ELECTION)
    known = sorted((each for each in found if each), key=lambda each: each.created)
    return [(each, uses.get(each.id, "")) for each in known]


def _list(as_json: bool) -> None:
    found = complete(_all(configured("keys")))
    if as_json:
        shown = [
            {**each.model_dump(mode="json", exclude={"digest"}), "last_used": used or None}
            for each, used in found
        ]
        echo(json.dumps(shown, indent=1))
    elif not found:
        echo(NONE)
    else:
        table = plain_table("id", "role", "name", "created", "last used", "expires", "accounts")
        for each in found:
            table.add_row(*_row(*each))
        console().print(table)


def _row(key: Key, used: str) -> tuple[str, ...]:
    expires = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
    if key.expired:
        expires += ", expired"
    accounts = " ".join(sorted(key.accounts))
    created = f"{key.created:%Y-%m-%d %H:%M}"
    return key.id, key.role, key.name, created, used or "never", expires, accounts


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"--{str(each['loc'][0]).removesuffix('s')}: {each['msg']}" if each["loc"] else each["msg"]
        for each in error.errors()
    )
