"""`bank verify` for any application: does what must hold hold, on the stores of the settings?

The bank's own arithmetic judges its money and its projection `balance`. Documents of all other
projections are compared with the projection's own fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

from pipeline.banking.balance import BALANCE
from pipeline.eventstore import EventStore
from pipeline.messaging.answers import ELECTION, until_answered
from pipeline.model.events import SLOTS
from pipeline.model.names import BANK
from pipeline.model.projection import Projection
from pipeline.operations.checker import check, guards_verdict
from pipeline.operations.checker.events import CheckedEvents
from pipeline.operations.checker.guards import stream_guards
from pipeline.operations.checker.live import (
    PATIENCE,
    check_live,
    guard_faults,
    opened,
    opened_events,
    while_they_answer,
)
from pipeline.operations.checker.report import CheckFigures, Faults, Report, verdict
from pipeline.operations.repair.diff import Difference
from pipeline.operations.repair.offline import offline_repair
from pipeline.support.settings import Settings


def verified(settings: Settings) -> Sequence[Projection]:
    """The projections whose documents are judged, and repaired."""
    return (BALANCE,) if _keeps_balances(settings) else settings.kept


def _keeps_balances(settings: Settings) -> bool:
    return BALANCE in settings.kept[:1]


async def verify(settings: Settings, *, patience: float = PATIENCE) -> Report:
    """Judge the invariants. Raises `Unreachable` and `CannotRepair`."""
    if _keeps_balances(settings):
        return await check_live(settings, patience=patience)
    began = monotonic()
    of_events = await _events(settings)
    return _report(of_events, await _documents(settings, patience), monotonic() - began)


async def _events(settings: Settings) -> Report:
    """The verdicts on the event store and on the guards."""
    if not settings.kept:
        async with opened_events(settings) as (store, js):
            with while_they_answer():
                guards = partial(stream_guards, js, settings)
                return await _judged(settings, store, await until_answered(guards, ELECTION))
    async with opened(settings) as stores:
        with while_they_answer():
            faults = await guard_faults(stores)
            if settings.names == BANK:
                return await check(
                    stores.store, None, under_way=stores.under_way, guard_faults=faults
                )
            return await _judged(settings, stores.store, faults)


async def _judged(settings: Settings, store: EventStore, faults: Sequence[str]) -> Report:
    """Those on the event store of an application that is not the bank. `faults`: of guards in other
    servers."""
    events = CheckedEvents(settings.chosen.invariants)
    await events.read(store.replay(range(SLOTS)))
    guards = await guards_verdict(store, faults)
    figures = CheckFigures(events.accounts, events.events, 0, 0, 0, 0, 0.0)
    return Report((*events.verdicts(), guards), figures, await store.invalid_documents())


@dataclass(slots=True)
class _Compared:
    """What a comparison of a projection's documents found."""

    documents: int = 0
    lagging: int = 0
    faults: Faults = field(default_factory=Faults)


async def _documents(settings: Settings, patience: float) -> _Compared:
    """The documents of all projections that are judged."""
    found = _Compared()
    for projection in verified(settings):
        async with (
            opened(settings, projection) as stores,
            offline_repair(settings, stores) as offline,
        ):
            comparison = offline.comparison(patience)
            with while_they_answer():
                async for each in comparison.slots(range(SLOTS)):
                    found.faults.add(f"{projection.name}: {_in_words(each)}")
        found.documents += comparison.documents
        found.lagging += comparison.lagging
    return found


def _in_words(difference: Difference) -> str:
    fields = ", ".join(
        f"{name} {there!r} for {wanted!r}" for name, (there, wanted) in difference.fields.items()
    )
    waits = " (parked: `bank parked show`)" if difference.parked else ""
    return f"document {difference.document_id}: {difference.what} {fields}".rstrip() + waits


def _report(of_events: Report, compared: _Compared, seconds: float) -> Report:
    lag = f", {compared.lagging:,} of them behind" if compared.lagging else ""
    of_documents = verdict(4, compared.faults, f"{compared.documents:,} documents{lag}")
    verdicts = sorted((*of_events.verdicts, of_documents), key=lambda each: each.number)
    figures = replace(
        of_events.figures,
        documents=compared.documents,
        lag_documents=compared.lagging,
        seconds=round(seconds, 3),
    )
    return replace(of_events, verdicts=tuple(verdicts), figures=figures)
