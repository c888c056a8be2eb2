"""Mending documents from the command line: one account, or all that differ; no worker is needed."""

from dataclasses import dataclass, field
from typing import Final

import click

from pipeline.cli.differences import line, run_on_stores
from pipeline.cli.failures import CommandFailed
from pipeline.model.events import SLOTS
from pipeline.model.projection import Projection
from pipeline.operations.checker.live import check_live, check_stores, opened
from pipeline.operations.checker.report import Report
from pipeline.operations.repair.diff import Difference
from pipeline.operations.repair.offline import OfflineRepair, offline_repair
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList

SHOWN: Final = 20
_CHUNK: Final = 500
_PATIENCE: Final = 2.0
"""Seconds for what is behind to come right by itself. Nobody can tell a document that was deleted
from one whose event is on its way; to mend either does no harm."""


@dataclass(slots=True)
class RepairResult:
    """What was found to differ, with the first of them, and what was done about it."""

    found: int = 0
    written: int = 0
    removed: int = 0
    first: list[Difference] = field(default_factory=list)


def repair_account(settings: Settings, projection: Projection, account_id: str) -> bool:
    """Make one account's document what the store says, here and now; print what was done.

    A parked account goes on if that works. Returns whether all is right now; raises
    `CommandFailed` with the exit code 2 when a store can't be reached.
    """
    return run_on_stores(_repair_account(settings, projection, account_id))


async def _repair_account(settings: Settings, projection: Projection, account_id: str) -> bool:
    async with opened(settings, projection) as stores, offline_repair(settings, stores) as offline:
        if projection.every:
            return await _repair_documents(offline, account_id)
        before, parked = await offline.diff(account_id), account_id in offline.parked
        if before.what == "right" and not parked:
            known = before.wanted > 0
            click.echo(f"{account_id}: {'is right already' if known else 'no such account'}")
            return known
        mended = await offline.repair([account_id])
        if before.what != "right":
            done = "removed" if mended.removed else "written" if mended.written else "left"
            click.echo(f"{line(offline.difference(account_id, before))}: {done}")
        if parked:
            click.echo(f"{account_id}: {_waits(offline.parked, account_id)}")
        after = await offline.diff(account_id)
        if after.what not in ("right", "behind"):
            told = line(offline.difference(account_id, after))
            raise CommandFailed(f"it is not right yet: {told}")
        return account_id not in offline.parked


async def _repair_documents(offline: OfflineRepair, account_id: str) -> bool:
    """The same, where each of the account's events has a document."""
    found = [each async for each in offline.comparison(_PATIENCE).these([account_id])]
    parked = account_id in offline.parked
    if not found and not parked:
        click.echo(f"{account_id}: is right already")
        return True
    await offline.repair([offline.projection.before(account_id, 1)])
    for each in found:
        click.echo(f"{line(each)}: mended")
    if parked:
        click.echo(f"{account_id}: {_waits(offline.parked, account_id)}")
    async for each in offline.comparison(_PATIENCE).these([account_id]):
        raise CommandFailed(f"it is not right yet: {line(each)}")
    return account_id not in offline.parked


def print_repair(repair: RepairResult) -> None:
    """Print what was mended: the first accounts, and how many."""
    for each in repair.first:
        click.echo(f"mended: {line(each)}")
    if (more := repair.found - len(repair.first)) > 0:
        click.echo(f"mended: and {more:,} more")
    click.echo(
        f"{repair.found:,} documents differed: "
        f"{repair.written:,} written, {repair.removed:,} removed"
        if repair.found
        else "no document differs from its events: nothing was written"
    )


async def check_and_repair(
    settings: Settings, patience: float
) -> tuple[Report, RepairResult, Report]:
    """The checker's verdict, what was mended, and the verdict after it; raises as it does."""
    async with opened(settings) as stores, offline_repair(settings, stores) as offline:
        before = await check_stores(stores, patience=patience)
        repair = await _repair(offline)
    if not repair.found:
        return before, repair, before
    return before, repair, await check_live(settings, patience=patience)


async def _repair(offline: OfflineRepair) -> RepairResult:
    repair, chunk = RepairResult(), list[str]()
    comparison = offline.comparison(_PATIENCE, lag_differs=True)
    async for difference in comparison.slots(range(SLOTS)):
        repair.found += 1
        if len(repair.first) < SHOWN:
            repair.first.append(difference)
        chunk.append(difference.document_id)
        if len(chunk) == _CHUNK:
            await _repair_chunk(offline, chunk, repair)
    await _repair_chunk(offline, chunk, repair)
    return repair


async def _repair_chunk(offline: OfflineRepair, chunk: list[str], repair: RepairResult) -> None:
    if chunk:
        mended = await offline.repair(chunk)
        repair.written += mended.written
        repair.removed += mended.removed
        chunk.clear()


def _waits(parked: ParkedAccountList, account_id: str) -> str:
    if account_id in parked:
        return f"still parked: {parked[account_id].reason}"
    return "parked no more"
