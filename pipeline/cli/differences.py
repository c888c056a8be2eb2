"""`bank rebuild --dry-run`: prints the documents that differ from the event store; writes
nothing."""

import json
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from nats.errors import Error as NatsError

from pipeline.cli.failures import CommandFailed
from pipeline.cli.formatting import echo
from pipeline.cli.running import complete
from pipeline.coordination.partitioning import partitioning
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStreamError
from pipeline.model.events import SLOTS, slots_of
from pipeline.model.projection import Projection
from pipeline.operations.checker.live import Stores, Unreachable, opened
from pipeline.operations.repair.compare import PATIENCE, Comparison
from pipeline.operations.repair.diff import Difference
from pipeline.operations.repair.offline import CannotRepair, offline_repair
from pipeline.search import ProjectionUnavailable
from pipeline.support.server_answers import worded
from pipeline.support.settings import Settings

T = TypeVar("T")

CANNOT: Final = 2
_LONGEST: Final = 40


def dry_run(
    settings: Settings,
    projection: Projection,
    *,
    partitions: Sequence[int] = (),
    account_ids: Sequence[str] = (),
    as_json: bool = False,
    patience: float = PATIENCE,
) -> int:
    """Compare all, or some partitions, or some accounts; returns how many documents differ.

    `CommandFailed` with exit code 2 if a store can't be read.
    """
    return run_on_stores(_compare(settings, projection, partitions, account_ids, as_json, patience))


def run_on_stores(main: Coroutine[Any, Any, T]) -> T:
    """Run a command that needs the stores. Exit code 2: one does not answer."""
    try:
        return complete(main)
    except (Unreachable, CannotRepair) as error:
        raise CommandFailed(str(error), CANNOT) from error
    except StoreUnavailable as error:
        raise CommandFailed(worded("MongoDB", error, "went away"), CANNOT) from error
    except ProjectionUnavailable as error:
        raise CommandFailed(worded("Elasticsearch", error, "went away"), CANNOT) from error
    except (NatsError, JetStreamError) as error:
        raise CommandFailed(worded("NATS", error, "went away"), CANNOT) from error


async def _compare(
    settings: Settings,
    projection: Projection,
    partitions: Sequence[int],
    account_ids: Sequence[str],
    as_json: bool,
    patience: float,
) -> int:
    began, kinds = time.monotonic(), Counter[str]()
    differences: list[dict[str, Any]] = []
    async with opened(settings, projection) as stores, offline_repair(settings, stores) as offline:
        comparison = offline.comparison(patience)
        parts = [comparison.slots(slots) for slots in await _slots(stores, partitions)]
        for part in [comparison.these(account_ids)] if account_ids else parts:
            async for difference in part:
                kinds[difference.what] += 1
                if as_json:
                    differences.append(difference.as_json())
                else:
                    echo(line(difference))
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        figures = {"accounts": comparison.accounts, "events": comparison.events}
        figures |= {"documents": comparison.documents, "lagging": comparison.lagging}
        report = {**figures, "seconds": seconds, "differences": differences}
        echo(json.dumps(report, indent=1, default=str))
    else:
        echo(_summary(comparison, kinds, seconds))
    return kinds.total()


async def _slots(stores: Stores, partitions: Sequence[int]) -> list[range]:
    """The slots of the partitions, by the number of partitions in force; without any, all slots."""
    if not partitions:
        return [range(SLOTS)]
    now = await partitioning(stores.js)
    count = now.count if now else 0
    for partition in partitions:
        if partition >= count:
            raise CommandFailed(f"there is no partition {partition}: the bank has {count}", CANNOT)
    return [slots_of(partition, count) for partition in dict.fromkeys(partitions)]


def line(difference: Difference) -> str:
    """A document and its differences in one line."""
    fields = ", ".join(
        f"{name} {_short(there)}, not {_short(wanted)}"
        for name, (there, wanted) in difference.fields.items()
    )
    waits = " (parked: `bank parked show`)" if difference.parked else ""
    return f"{difference.document_id:<26}  {difference.what:<8} {fields}{waits}".rstrip()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _summary(comparison: Comparison, kinds: Counter[str], seconds: float) -> str:
    what = ", ".join(f"{kinds[kind]:,} {kind}" for kind in ("differs", "missing", "extra"))
    lag = f", {comparison.lagging:,} behind, their events on the way" if comparison.lagging else ""
    read = f"{comparison.accounts:,} accounts with {comparison.events:,} events"
    found = what if kinds else "no difference"
    return f"{read} compared in {seconds:.1f} s: {found}{lag}"
