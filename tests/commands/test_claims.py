"""Claims: of all aggregates one at most has a key, whoever asks for it at the same time."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from pymongo.collection import Collection
from ulid import ULID

from pipeline.commands import CommandContext, CommandService, StoreUnguarded
from pipeline.eventstore.guards import FRESH
from pipeline.model.aggregate import Decision, Joint
from pipeline.model.claims import (
    CLAIM,
    Claim,
    GiveBack,
    KeyClaimed,
    KeyNotClaimed,
    Take,
    claim_id,
)
from pipeline.model.events import misplaced
from tests.commands.library import BOOK, Book, Buy, Rename
from tests.harness import AnyStore, rounds

CONTEXT = CommandContext("c")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A book gets a number, which no other book has, for its new title."""

    book: str
    title: str


def number(command: Catalogue, book: Book, claim: Claim) -> Iterator[Sequence[Decision]]:
    yield BOOK.decide(Rename(command.title), book)
    yield CLAIM.decide(Take(command.book), claim)


def change(command: Catalogue, book: Book, old: Claim, new: Claim) -> Iterator[Sequence[Decision]]:
    yield BOOK.decide(Rename(command.title), book)
    yield CLAIM.decide(GiveBack(command.book), old)
    yield CLAIM.decide(Take(command.book), new)


NUMBER: Final = Joint[Catalogue]("numbering", (BOOK, CLAIM), number)
CHANGE: Final = Joint[Catalogue]("change of number", (BOOK, CLAIM, CLAIM), change)


async def opened(store: AnyStore) -> CommandService:
    service = CommandService(store, [BOOK, CLAIM])
    await service.open()
    return service


@pytest.fixture
async def library(store: AnyStore) -> CommandService:
    return await opened(store)


async def books(service: CommandService, count: int) -> list[str]:
    bought = (service.create(BOOK, Buy("x"), CONTEXT) for _ in range(count))
    return [done.after.id for done in await asyncio.gather(*bought)]


async def numbered(service: CommandService, book: str, key: str) -> Any:
    ids = (book, claim_id(key))
    return await service.execute_together(NUMBER, ids, Catalogue(book, str(ULID())), CONTEXT)


async def changed(service: CommandService, book: str, old: str, new: str) -> Any:
    ids = (book, claim_id(old), claim_id(new))
    return await service.execute_together(CHANGE, ids, Catalogue(book, str(ULID())), CONTEXT)


async def holder(service: CommandService, key: str) -> str:
    return (await service.get(CLAIM, claim_id(key))).state.by


def test_a_claim_has_an_id_that_every_server_accepts() -> None:
    ids = [claim_id(key) for key in ("", "isbn/1", "isbn/2", "Ω" * 1000)]
    assert len({*ids}) == len(ids)
    for each in ids:
        assert misplaced({"account_id": each, "slot": 0, "version": 1}) != "it is of no account"


async def test_a_key_is_one_aggregates_until_it_is_given_back(
    library: CommandService, store: AnyStore
) -> None:
    one, other = await books(library, 2)
    await numbered(library, one, "isbn/1")
    for service in (library, await opened(store)):
        with pytest.raises(KeyClaimed) as refusal:
            await numbered(service, other, "isbn/1")
        assert (refusal.value.by, refusal.value.aggregate_id) == (one, claim_id("isbn/1"))
        with pytest.raises(KeyNotClaimed):
            await changed(service, other, "isbn/1", "isbn/2")
    await changed(library, one, "isbn/1", "isbn/2")
    await numbered(library, other, "isbn/1")
    assert (await holder(library, "isbn/1"), await holder(library, "isbn/2")) == (other, one)
    assert (await library.get(BOOK, other)).version == 2, "the refused ones left nothing"


async def test_of_many_that_take_a_key_one_gets_it(
    library: CommandService, store: AnyStore
) -> None:
    services = [library, await opened(store)]
    for turn in range(rounds(5, 50)):
        rivals = await books(library, 6)
        results = await asyncio.gather(
            *(numbered(services[n % 2], book, f"isbn/{turn}") for n, book in enumerate(rivals)),
            return_exceptions=True,
        )
        refused = [each for each in results if isinstance(each, KeyClaimed)]
        [won] = [each for each in results if not isinstance(each, BaseException)]
        assert len(refused) == 5
        assert {each.by for each in refused} == {won.after.id}
        versions = [(await library.get(BOOK, each)).version for each in rivals]
        assert sorted(versions) == [1, 1, 1, 1, 1, 2]


async def test_no_key_is_taken_while_its_guard_is_missing(
    library: CommandService, store: AnyStore, events: Collection[dict[str, Any]]
) -> None:
    one, other = await books(library, 2)
    await numbered(library, one, "isbn/1")
    await asyncio.to_thread(events.drop_index, "account_version")
    await asyncio.sleep(2 * FRESH)
    with pytest.raises(StoreUnguarded):
        await numbered(library, other, "isbn/2")
    await library.watch()
    await numbered(library, other, "isbn/2")
    assert await holder(library, "isbn/2") == other
