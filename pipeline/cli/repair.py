"""Repairs documents from the command line: of one account, or all that differ. Needs no worker."""

from dataclasses import dataclass, field
from typing import Final

from pipeline.cli.differences import line, run_on_stores
from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.model.events import SLOTS
from pipeline.model.projection import Projection
from pipeline.operations.audit import record
from pipeline.operations.checker.live import opened
from pipeline.operations.checker.report import Report
from pipeline.operations.repair.diff import Difference
from pipeline.operations.repair.offline import OfflineRepair, offline_repair
from pipeline.operations.verify import verified, verify
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccountList

SHOWN: Final = 20
_CHUNK: Final = 500
_PATIENCE: Final = 2.0
"""Seconds in which a document that is behind may come right. After that it is repaired: a document
that was deleted looks like one whose event is on the way, and repairing either does no harm."""


@dataclass(slots=True)
class RepairResult:
    """How many documents differed, the first of them, and how many were written and removed."""

    found: int = 0
    written: int = 0
    removed: int = 0
    first: list[Difference] = field(default_factory=list)


def repair_account(settings: Settings, projection: Projection, account_id: str) -> bool:
    """Repair one account's document from its events, and print what was done.

    A parked account is released if its events can be applied. Returns whether the document is right
    now; raises `CommandFailed` with exit code 2 if a store can't be reached.
    """
    return run_on_stores(_repair_account(settings, projection, account_id))


async def _repair_account(settings: Settings, projection: Projection, account_id: str) -> bool:
    async with opened(settings, projection) as stores, offline_repair(settings, stores) as offline:
        await record(stores.js, settings, "repair", f"{projection.name} {account_id}", "asked")
        if projection.every:
            return await _repair_documents(offline, account_id)
        before, parked = await offline.diff(account_id), account_id in offline.parked
        if before.what == "right" and not parked:
            known = before.newest > 0
            echo(f"{account_id}: {'is right already' if known else 'no such account'}")
            return known
        result = await offline.repair([account_id])
        if before.what != "right":
            done = "removed" if result.removed else "written" if result.written else "left"
            echo(f"{line(offline.difference(account_id, before))}: {done}")
        if parked:
            echo(f"{account_id}: {_parking_state(offline.parked, account_id)}")
        after = await offline.diff(account_id)
        if after.what not in ("right", "behind"):
            difference = line(offline.difference(account_id, after))
            raise CommandFailed(f"it is not right yet: {difference}")
        return account_id not in offline.parked


async def _repair_documents(offline: OfflineRepair, account_id: str) -> bool:
    """The same for a projection with a document for each event."""
    found = [each async for each in offline.comparison(_PATIENCE).these([account_id])]
    parked = account_id in offline.parked
    if not found and not parked:
        echo(f"{account_id}: is right already")
        return True
    await offline.repair([offline.projection.before(account_id, 1)])
    for each in found:
        echo(f"{line(each)}: repaired")
    if parked:
        echo(f"{account_id}: {_parking_state(offline.parked, account_id)}")
    async for each in offline.comparison(_PATIENCE).these([account_id]):
        raise CommandFailed(f"it is not right yet: {line(each)}")
    return account_id not in offline.parked


def print_repair(repair: RepairResult) -> None:
    """Print what was repaired: the first documents, and how many."""
    for each in repair.first:
        echo(f"repaired: {line(each)}")
    if (more := repair.found - len(repair.first)) > 0:
        echo(f"repaired: and {more:,} more")
    echo(
        f"{repair.found:,} documents differed: "
        f"{repair.written:,} written, {repair.removed:,} removed"
        if repair.found
        else "no document differs from its events: nothing was written"
    )


async def check_and_repair(
    settings: Settings, patience: float
) -> tuple[Report, RepairResult, Report]:
    """Check, repair, and check again; raises what the checker raises."""
    before, repair = await verify(settings, patience=patience), RepairResult()
    for projection in verified(settings):
        async with (
            opened(settings, projection) as stores,
            offline_repair(settings, stores) as offline,
        ):
            await record(stores.js, settings, "repair", projection.name, "asked")
            await _repair(offline, repair)
            outcome = f"{repair.written} written, {repair.removed} removed"
            await record(stores.js, settings, "repair", projection.name, outcome)
    if not repair.found:
        return before, repair, before
    return before, repair, await verify(settings, patience=patience)


async def _repair(offline: OfflineRepair, repair: RepairResult) -> None:
    chunk = list[str]()
    comparison = offline.comparison(_PATIENCE, lag_differs=True)
    async for difference in comparison.slots(range(SLOTS)):
        repair.found += 1
        if len(repair.first) < SHOWN:
            repair.first.append(difference)
        chunk.append(difference.document_id)
        if len(chunk) == _CHUNK:
            await _repair_chunk(offline, chunk, repair)
    await _repair_chunk(offline, chunk, repair)


async def _repair_chunk(offline: OfflineRepair, chunk: list[str], repair: RepairResult) -> None:
    if chunk:
        result = await offline.repair(chunk)
        repair.written += result.written
        repair.removed += result.removed
        chunk.clear()


def _parking_state(parked: ParkedAccountList, account_id: str) -> str:
    if account_id in parked:
        return f"still parked: {parked[account_id].reason}"
    return "parked no more"
