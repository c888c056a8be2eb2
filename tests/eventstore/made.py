"""Events for tests of the event store, and what becomes of appends."""

import asyncio

from pipeline.banking.events import CREATED, DEPOSITED
from pipeline.model.events import Event, new_event


def account(number: int) -> str:
    return f"{number:026d}"


def deposit(account_id: str, version: int, key: str | None = None) -> Event:
    event = new_event(account_id, version, DEPOSITED if version > 1 else CREATED, {"money": 5})
    if key is not None:
        event["idempotency_key"] = key
    return event


def row(account_id: str, first: int, number: int) -> list[Event]:
    versions = range(first, first + number)
    return [
        new_event(account_id, v, DEPOSITED if v > 1 else CREATED, {"money": v}) for v in versions
    ]


async def outcomes(*appends: object) -> list[BaseException | None]:
    return list(await asyncio.gather(*appends, return_exceptions=True))  # type: ignore[call-overload]
