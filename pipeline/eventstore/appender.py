"""Appends events: one account's in groups, several accounts' in a transaction.

Every caller gets an outcome within `DEADLINE`.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from bson.raw_bson import RawBSONDocument

from pipeline.eventstore.append_queue import AppendQueue, AppendRow
from pipeline.eventstore.deadlines import Deadlines
from pipeline.eventstore.errors import StoreUnavailable
from pipeline.eventstore.guards import Guards
from pipeline.eventstore.transactions import Transactions
from pipeline.eventstore.write_results import AppendResult, Client, Collection, encode
from pipeline.model.events import Event
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

DEADLINE: Final = 10.0
"""Seconds after which a caller without an outcome gets `StoreUnavailable`."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0
_LATE: Final = "MongoDB did not answer in time"


class Appender:
    """Writes into the collection `events`. A process needs one instance."""

    def __init__(self, client: Client, events: Collection, guards: Guards) -> None:
        self._guards = guards
        outage = Outage(log, "Appending to MongoDB", first=_FIRST_PAUSE, most=_LONGEST_PAUSE)
        self._rows = AppendQueue(events, guards, outage)
        self._deadlines = Deadlines(_LATE, DEADLINE)
        self._transactions = Transactions(client, events, guards, outage)

    async def row(self, events: Sequence[Event], epoch: int | None = None) -> AppendResult:
        """Append consecutive events of one account, grouped with the other rows that wait.

        `epoch`: the one of the guards in which they were decided, by default the present one.
        """
        documents, error = _encoded(events)
        if not documents:
            return AppendResult(0, error)
        outcome: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        row = AppendRow(events[: len(documents)], documents, outcome, self._epoch(epoch))
        self._rows.add(row)
        self._deadlines.add(row)
        stored = await outcome
        return stored if stored.error else AppendResult(stored.number, error)

    async def one(self, event: Event, epoch: int | None = None) -> None:
        """Append one event, grouped with the other rows that wait; raises its error."""
        stored = await self.row([event], epoch)
        if stored.error is not None:
            raise stored.error

    async def together(self, events: Sequence[Event], epoch: int | None = None) -> None:
        """Append all of the events, or none, in one transaction."""
        outcome = self._transactions.start(events, DEADLINE, self._epoch(epoch))
        try:
            async with asyncio.timeout(DEADLINE):
                # Cancelling a caller must not cancel the transaction: others may share it.
                await asyncio.shield(outcome)
        except TimeoutError:
            raise StoreUnavailable(_LATE) from None

    def _epoch(self, epoch: int | None) -> int:
        return self._guards.epoch if epoch is None else epoch

    async def close(self) -> None:
        """Wait for the appends in flight."""
        await asyncio.gather(self._rows.close(DEADLINE), self._transactions.close(DEADLINE))


def _encoded(events: Sequence[Event]) -> tuple[list[RawBSONDocument], Exception | None]:
    """The documents of the events up to the first that can't be encoded, and its error."""
    documents: list[RawBSONDocument] = []
    for event in events:
        try:
            documents.append(encode(event))
        except Exception as error:
            return documents, error
    return documents, None
