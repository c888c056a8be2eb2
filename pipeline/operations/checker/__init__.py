"""Do the invariants hold on the stores as they are now? Checks them while traffic goes on.

The checker reads every account in the event store, slot by slot, and its document beside it. It
keeps no account, so its memory does not grow with their number.
"""

from collections.abc import AsyncIterator, Container, Iterable
from time import monotonic

from pipeline.banking.account import ACCOUNT
from pipeline.eventstore import EventStore
from pipeline.model.events import SLOTS, Event
from pipeline.operations.checker.documents import CheckedDocuments, CheckedProjection, UnderWay
from pipeline.operations.checker.forgotten import ForgottenSubjects
from pipeline.operations.checker.guards import store_guards
from pipeline.operations.checker.history import Answer, Command, ExpectedEvents
from pipeline.operations.checker.holds import TOLERANCE, CheckedHolds
from pipeline.operations.checker.ledger import Ledger, LedgerAccount
from pipeline.operations.checker.report import (
    TITLES,
    CheckFigures,
    Report,
    Verdict,
    verdict,
)
from pipeline.operations.recheck import CHUNK

__all__ = ["Answer", "CheckFigures", "CheckedProjection", "Command", "Report", "Verdict", "check"]


async def check(
    store: EventStore,
    projection: CheckedProjection | None,
    *,
    under_way: UnderWay,
    history: Iterable[Answer] | None = None,
    alone: bool = False,
    parked: Container[str] = (),
    patience: float = 15.0,
    guard_faults: Iterable[str] = (),
) -> Report:
    """Read both stores and judge the invariants 1 to 5, 8, 13 and 16 to 19.

    `history`: the commands that clients sent and their answers, all before this call; without it 3
    and 8 can't be judged. `alone`: no other command was ever sent to this store. `parked`: accounts
    that are parked; their documents still violate 4. Without a `projection` 4 is left out.
    `patience`: seconds in which a document that differs may still come right. `guard_faults`: what
    is wrong with guards out of MongoDB.

    Raises what the stores raise when they can't be read.
    """
    began = monotonic()
    ledger = Ledger(ExpectedEvents.of(history, alone=alone) if history is not None else None)
    documents = CheckedDocuments(store, projection, parked) if projection else None
    subjects = ForgottenSubjects(store, [ACCOUNT])
    await _walk(store, subjects.follow(store.replay(range(SLOTS))), ledger, documents)
    if documents is not None:
        await documents.find_extra()
    async for leg in ledger.pairing.alone(store):
        what = f"{leg.money} from {leg.payer} to {leg.payee}"
        ledger.money.add(f"transfer {leg.transfer} of {what} has one leg only")
    if documents is not None:
        await documents.settle(patience, under_way)
    await ledger.holds.settle(store, patience)
    invalid = await store.invalid_documents()
    guards = await guards_verdict(store, guard_faults)
    figures = CheckFigures(
        ledger.accounts,
        ledger.events,
        ledger.pairing.transfers,
        documents.documents if documents else 0,
        documents.lag_documents if documents else 0,
        documents.lag_events if documents else 0,
        round(monotonic() - began, 3),
    )
    verdicts = (*_verdicts(ledger, documents, guards), await subjects.verdict(patience))
    return Report(verdicts, figures, invalid)


async def guards_verdict(store: EventStore, faults: Iterable[str]) -> Verdict:
    """On the guards in MongoDB, and the faults of those elsewhere."""
    guards = await store_guards(store)
    for fault in faults:
        guards.add(fault)
    return verdict(13, guards, "unique indexes, collection, stream, consumers, buckets, aliases")


async def _walk(
    store: EventStore,
    replay: AsyncIterator[list[Event]],
    ledger: Ledger,
    documents: CheckedDocuments | None,
) -> None:
    chunk: list[LedgerAccount] = []
    async for account in ledger.walk(replay):
        await ledger.reversals.close(account.id, store)
        if documents is None:
            continue
        chunk.append(account)
        if len(chunk) == CHUNK:
            await documents.compare(chunk)
            chunk.clear()
    if documents is not None and chunk:
        await documents.compare(chunk)


def _verdicts(
    ledger: Ledger, documents: CheckedDocuments | None, guards: Verdict
) -> tuple[Verdict, ...]:
    if ledger.balances != ledger.deposits - ledger.withdrawals:
        ledger.money.add("the balances do not add up to deposits minus withdrawals")
    sums = f"{ledger.balances:,} = {ledger.deposits:,} in - {ledger.withdrawals:,} out"
    return (
        verdict(1, ledger.money, f"{sums}; {ledger.pairing.transfers:,} transfers"),
        verdict(2, ledger.versions, f"{ledger.events:,} events of {ledger.accounts:,} accounts"),
        _acknowledged(ledger),
        *([_of_documents(documents)] if documents else []),
        verdict(5, ledger.below_zero, f"lowest {ledger.lowest:,}" if ledger.events else "no event"),
        _once(ledger.expected),
        guards,
        verdict(16, ledger.chain, f"{ledger.chained:,} of {ledger.events:,} events in chains"),
        _of_holds(ledger.holds),
        verdict(18, ledger.reversals.faults, f"{ledger.reversals.legs // 2:,} reversals"),
    )


def _of_holds(holds: CheckedHolds) -> Verdict:
    figure = f"{holds.holds:,} holds, {holds.open:,} open; {TOLERANCE:g} s are tolerated"
    return verdict(17, holds.faults, figure)


def _of_documents(documents: CheckedDocuments) -> Verdict:
    lag = f", {documents.lag_documents:,} of them {documents.lag_events:,} events behind"
    figure = f"{documents.documents:,} documents" + (lag if documents.lag_documents else "")
    return verdict(4, documents.faults, figure)


def _unknown(number: int) -> Verdict:
    why = "only the sender of the commands can judge it (`bank demo` does)"
    return Verdict(number, TITLES[number], None, why)


def _once(expected: ExpectedEvents | None) -> Verdict:
    if expected is None:
        return _unknown(8)
    return verdict(
        8, expected.key_faults, f"{expected.keys:,} keys, {expected.repeated:,} answered again"
    )


def _acknowledged(ledger: Ledger) -> Verdict:
    expected = ledger.expected
    if expected is None:
        return _unknown(3)
    expected.close()
    figure = f"{expected.acknowledged:,} acknowledged, {expected.rejected:,} rejected"
    if expected.unknown:
        figure += f", {expected.unknown:,} without an answer"
    return verdict(3, expected.faults, figure)
