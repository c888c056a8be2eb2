"""The list of parked accounts as commands use it: open it, choose from it, await results."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Final

from pipeline.cli.connections import jetstream
from pipeline.cli.failures import CommandFailed
from pipeline.model.projection import Projection
from pipeline.support.settings import Settings
from pipeline.tables.parked_accounts import ParkedAccount, ParkedAccountList

_EVERY: Final = 0.2


@asynccontextmanager
async def opened(settings: Settings, projection: Projection) -> AsyncIterator[ParkedAccountList]:
    """The list as it is now; `CommandFailed` when NATS does not answer."""
    async with jetstream(settings) as js:
        parked = ParkedAccountList(js, projection, replicas=settings.stream_replicas)
        await parked.refresh()
        yield parked


def chosen(parked: ParkedAccountList, account_ids: Collection[str]) -> list[ParkedAccount]:
    """The accounts of these ids, each once; `CommandFailed` if one of them is not parked."""
    for account_id in account_ids:
        if account_id not in parked:
            raise CommandFailed(
                f"account {account_id} is not parked; `bank parked` lists those that are"
            )
    return [parked[account_id] for account_id in dict.fromkeys(account_ids)]


async def outcomes(
    parked: ParkedAccountList, account_ids: Iterable[str], seconds: float
) -> AsyncIterator[tuple[str, str | None]]:
    """Each account with its fault as soon as that is known; None if its events were applied.

    A retry of each has just been asked for. An account that is off the list was applied.
    """
    # The number of attempts before: one more means that the retry was made and failed.
    attempts = {each: parked[each].attempts if each in parked else 0 for each in account_ids}
    deadline = time.monotonic() + seconds
    while attempts and time.monotonic() < deadline:
        await parked.refresh()
        for account_id, before in list(attempts.items()):
            if account_id in parked and parked[account_id].attempts <= before:
                continue
            del attempts[account_id]
            again = account_id in parked
            yield account_id, f"parked again: {parked[account_id].reason}" if again else None
        if attempts:
            await asyncio.sleep(_EVERY)
    for account_id in attempts:
        yield account_id, f"no worker answered within {seconds:g} s; it stays asked"
