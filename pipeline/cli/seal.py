"""`bank seal`: prints and signs the heads of all accounts, and compares a kept seal with the
bank."""

import os
from pathlib import Path
from typing import BinaryIO

import click

from pipeline.cli.connections import jetstream
from pipeline.cli.differences import CANNOT, run_on_stores
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.running import configured
from pipeline.eventstore import EventStore
from pipeline.operations.audit import record
from pipeline.operations.seal import InvalidSeal, Walk, check, new_key, sign, signed
from pipeline.operations.seal import seal as lines_of
from pipeline.support.settings import Settings

_File = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--out", type=_File, metavar="FILE", help="Write it there; by default on stdout.")
@click.option(
    "--key",
    type=_File,
    metavar="FILE",
    help="A private Ed25519 key in PEM; the signature goes to the file of --out with .sig.",
)
@click.option("--check", "kept", type=_File, metavar="FILE", help="Compare a seal.")
@click.option(
    "--public-key",
    type=_File,
    metavar="FILE",
    help="With --check: the seal must be signed with its private key.",
)
@click.option("--new-key", "fresh", type=_File, metavar="FILE", help="Make a key, and FILE.pub.")
def seal(
    out: Path | None,
    key: Path | None,
    kept: Path | None,
    public_key: Path | None,
    fresh: Path | None,
) -> None:
    """Print and sign the heads of all accounts, for somebody outside to keep.

    A seal has the version and the hash of each account's last event. As long as somebody else has
    it, no event that it covers can be changed, removed or inserted unnoticed, even by who may write
    into the event store. Reads all events while traffic goes on. Exits with 1 if a chain is broken,
    or with --check if the bank is not the sealed one; with 2 if that can't be judged.

    \b
    Examples:
      bank seal --new-key seal.pem                   a key, once
      bank seal --key seal.pem --out today.seal      and today.seal.sig
      bank seal --check today.seal --public-key seal.pem.pub    a year later
    """
    if (key and not out) or (public_key and not kept):
        raise click.UsageError("--key needs --out, and --public-key needs --check")
    if sum(each is not None for each in (out, kept, fresh)) > 1:
        raise click.UsageError("one of --out, --check and --new-key")
    if fresh is not None:
        _make_key(fresh)
        return
    settings = configured("seal")
    try:
        if kept is not None:
            if public_key is not None:
                _require_signed(kept, public_key)
            with kept.open("rb") as lines:
                run_on_stores(_check(settings, lines))
        else:
            _print(settings, out, key)
    except (InvalidSeal, OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"can't be judged: {error}", CANNOT) from None


def _print(settings: Settings, out: Path | None, key: Path | None) -> None:
    private = key.read_text() if key is not None else ""
    if key is not None:
        sign(b"", private)  # what is no key must not be noticed after an hour
    if out is None:
        run_on_stores(_seal(settings, click.get_binary_stream("stdout")))
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            run_on_stores(_seal(settings, file))
        signature = sign(part.read_bytes(), private) if key is not None else None
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    if signature is not None:
        _signature_of(out).write_bytes(signature)


def _signature_of(seal: Path) -> Path:
    return seal.with_name(f"{seal.name}.sig")


async def _seal(settings: Settings, file: BinaryIO) -> None:
    walk = Walk()
    store = EventStore(settings.mongodb, settings.mongodb_database)
    try:
        async for line in lines_of(store, walk):
            file.write(line)
    finally:
        await store.close()
    _require_whole(walk)
    await _note(settings, walk)


async def _note(settings: Settings, walk: Walk) -> None:
    """Write a line of the audit log; a seal itself needs no NATS."""
    try:
        async with jetstream(settings) as js:
            await record(js, settings, "seal", f"{walk.accounts} accounts, {walk.events} events")
    except CommandFailed as error:
        echo(f"the audit log has no line of this seal: {error}", err=True)


async def _check(settings: Settings, lines: BinaryIO) -> None:
    walk = Walk()
    store = EventStore(settings.mongodb, settings.mongodb_database)
    try:
        compared = await check(store, lines, walk)
    finally:
        await store.close()
    _require_whole(walk)
    echo(f"{compared:,} sealed heads are in the chains of {walk.accounts:,} accounts")


def _require_whole(walk: Walk) -> None:
    if walk.faults.count:
        more = walk.faults.count - len(walk.faults.examples)
        told = [*walk.faults.examples, *([f"and {more:,} more"] if more else [])]
        raise CommandFailed("\n".join(told))


def _require_signed(kept: Path, public_key: Path) -> None:
    signature = _signature_of(kept)
    if not signature.exists():
        raise InvalidSeal(f"there is no signature {signature}")
    if not signed(kept.read_bytes(), signature.read_bytes(), public_key.read_text()):
        raise CommandFailed(f"{kept}: its signature is not by the holder of {public_key}")


def _make_key(file: Path) -> None:
    """A private key that only this user may read, never over an existing file."""
    private, public = new_key()
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(private)
        file.with_name(f"{file.name}.pub").write_text(public)
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from None
    echo(f"{file} signs seals; {file}.pub checks them", err=True)
