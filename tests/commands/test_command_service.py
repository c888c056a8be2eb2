"""The write engine with aggregates that are no accounts: several kinds, events and states."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from ulid import ULID

from pipeline.commands import (
    AggregateNotFound,
    CommandContext,
    CommandService,
    KeyReused,
    OfAnotherAggregate,
    SameAggregate,
    VersionMismatch,
)
from pipeline.model.aggregate import Aggregate, Decision, Joint
from pipeline.model.chain import Chain
from pipeline.model.events import Event
from tests.commands.library import (
    BOOK,
    LOAN,
    READER,
    Book,
    Borrow,
    Buy,
    Lend,
    NoSuchBook,
    NotOnShelf,
    Reader,
    Rename,
    TakeCopy,
    TooDifficult,
    TooManyBooks,
    like_a_book,
)
from tests.harness import AnyStore, eventually, rounds

CONTEXT = CommandContext("c")


class Exactly:
    """A condition: this version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def admits(self, version: int) -> bool:
        return version == self.version


def new() -> str:
    return str(ULID())


@pytest.fixture
def store(any_store: AnyStore) -> AnyStore:
    """The write engine works on both kinds."""
    return any_store


@pytest.fixture
async def library(store: AnyStore) -> CommandService:
    return await opened(store)


async def opened(store: AnyStore) -> CommandService:
    service = CommandService(store, [BOOK, READER])
    await service.open()
    return service


def keyed(key: str) -> CommandContext:
    return CommandContext("c", key, "request")


async def sound(store: AnyStore, aggregate_id: str) -> list[Event]:
    """The events, whose versions and chain must be sound."""
    events, chain = await store.load(aggregate_id), Chain()
    assert [event["version"] for event in events] == [*range(1, len(events) + 1)]
    assert [chain.follow(event) for event in events] == [None] * len(events)
    return events


async def test_kinds_of_aggregates_are_served_side_by_side(
    library: CommandService, store: AnyStore
) -> None:
    book = (await library.create(BOOK, Buy("Ulysses"), CONTEXT)).after
    reader = (await library.create(READER, Borrow(book.id), CONTEXT)).after
    assert (book.state, book.version) == (Book("Ulysses", 1), 1)
    assert (reader.state, reader.version) == (Reader((book.id,), 1), 1)
    again = await opened(store)
    assert await again.get(BOOK, book.id) == book
    assert await again.get(READER, reader.id) == reader
    assert await again.histories(BOOK).at_version(book.id, 1) == book
    for nobody in (library.get(BOOK, new()), library.histories(READER).at_version(new(), 1)):
        with pytest.raises(AggregateNotFound):
            await nobody


async def test_a_refusal_names_its_aggregate(library: CommandService) -> None:
    book = new()
    with pytest.raises(NoSuchBook) as refusal:
        await library.execute(BOOK, book, Rename("Dubliners"), CONTEXT)
    assert refusal.value.aggregate_id == book
    conditional = CommandContext("c", condition=Exactly(1))
    with pytest.raises(NoSuchBook):  # more precise than that it has no version 1
        await library.execute(BOOK, book, Rename("Dubliners"), conditional)
    with pytest.raises(VersionMismatch):
        await library.execute(BOOK, book, Buy("Ulysses"), conditional)
    await library.execute(BOOK, book, Buy("Ulysses"), CONTEXT)
    assert (await library.execute(BOOK, book, Buy("Ulysses"), conditional)).after.version == 2


# ------------------------------------------------------------------ several events, or none


async def test_a_command_of_several_events_is_stored_whole_and_once(
    library: CommandService, store: AnyStore
) -> None:
    book = new()
    await library.execute(BOOK, book, Buy("Ulysses"), keyed("taken"))
    first = await library.execute(BOOK, book, Buy("Ulysses", 3), keyed("three"))
    assert [event["version"] for event in first.events] == [2, 3, 4]
    assert first.after.state.copies == 4
    for service in (library, await opened(store)):
        again = await service.execute(BOOK, book, Buy("Ulysses", 3), keyed("three"))
        assert (again.after, again.replayed) == (first.after, True)
        assert again.events == first.events[-1:]
    with pytest.raises(KeyReused):
        await library.execute(BOOK, book, Buy("x", 3), CommandContext("c", "taken", "another"))
    assert len(await sound(store, book)) == 4


async def test_commands_of_several_events_take_part_in_batches(
    library: CommandService, store: AnyStore
) -> None:
    """With others before and behind them, refused ones too, on two services that contend."""
    book, services, chance = new(), [library, await opened(store)], 7
    await library.execute(BOOK, book, Buy("Ulysses"), CONTEXT)
    numbers = [1 + n * chance % 4 for n in range(rounds(40, 400))]
    results = await asyncio.gather(
        *(
            services[n % 2].execute(BOOK, book, Buy("Ulysses", copies), CommandContext(f"c{n}"))
            if copies < 4
            else services[n % 2].execute(BOOK, book, TakeCopy(), CommandContext(f"c{n}"))
            for n, copies in enumerate(numbers)
        ),
        return_exceptions=True,
    )
    events = await sound(store, book)
    counted = Counter(event["correlation_id"] for event in events)
    for n, (copies, result) in enumerate(zip(numbers, results, strict=True)):
        if isinstance(result, BaseException):
            assert isinstance(result, NotOnShelf), result
            assert f"c{n}" not in counted
        else:
            mine = [event for event in events if event["correlation_id"] == f"c{n}"]
            assert mine == result.events, "one after the other, none in between"
            assert len(mine) == (copies if copies < 4 else 1)
            assert result.after.version == mine[-1]["version"]


async def test_too_large_an_event_fails_its_command_alone(
    library: CommandService, store: AnyStore
) -> None:
    book, huge = new(), "x" * 300_000
    commands = [Buy("a"), Buy(huge, 2), Buy("b", 2), Buy(huge), Buy("c")]
    results = await asyncio.gather(
        *(library.execute(BOOK, book, each, CONTEXT) for each in commands),
        return_exceptions=True,
    )
    assert [isinstance(each, ValueError) for each in results] == [False, True, False, True, False]
    titles = [event["body"]["title"] for event in await sound(store, book)]
    assert titles == ["a", "b", "b", "c"]


async def test_a_command_with_nothing_to_do_stores_nothing(
    library: CommandService, store: AnyStore
) -> None:
    book = (await library.create(BOOK, Buy("Ulysses"), CONTEXT)).after
    done = await library.execute(BOOK, book.id, Rename("Ulysses"), keyed("k"))
    assert (done.events, done.after) == ([], book)
    assert await store.count() == 1
    other = await opened(store)
    await other.execute(BOOK, book.id, Rename("Dubliners"), CONTEXT)
    # `library` remembers the old title: on that there would be nothing to do.
    renamed = await library.execute(BOOK, book.id, Rename("Ulysses"), CONTEXT)
    assert (renamed.after.state.title, renamed.after.version) == ("Ulysses", 3)
    results = await asyncio.gather(
        *(library.execute(BOOK, book.id, Rename(title), CONTEXT) for title in "aabbba")
    )
    assert [each.after.state.title for each in results] == [*"aabbba"]
    assert [len(each.events) for each in results] == [1, 0, 1, 0, 0, 1]
    assert len(await sound(store, book.id)) == 6


async def test_a_kind_that_the_aggregate_does_not_have_is_not_stored(store: AnyStore) -> None:
    wrong = Aggregate[Buy, Book](
        "book",
        initial=Book,
        decide=lambda _, __: [Decision("Misspelt", {})],
        evolve=BOOK.evolve,
        kinds=BOOK.schemas,
    )
    service = CommandService(store, [wrong])
    await service.open()
    with pytest.raises(ValueError, match="book decides Misspelt"):
        await service.create(wrong, Buy("Ulysses"), CONTEXT)
    assert await store.count() == 0


async def test_decisions_may_be_yielded(store: AnyStore) -> None:
    def decide(command: Buy | TakeCopy | Rename, book: Book) -> Iterator[Decision]:
        yield from BOOK.decide(command, book)

    def decide_loan(command: Lend, book: Book, reader: Reader) -> Iterator[Iterator[Decision]]:
        yield decide(TakeCopy(command.reader), book)
        yield iter(READER.decide(Borrow(command.book), reader))

    yielding = like_a_book(decide=decide)
    loan = Joint[Lend]("loan", (yielding, READER), decide_loan)
    service = CommandService(store, [yielding, READER])
    await service.open()
    bought = await service.create(yielding, Buy("Ulysses", 2), keyed("k1"))
    again = await service.create(yielding, Buy("Ulysses", 2), keyed("k1"))
    assert (again.after, again.replayed) == (bought.after, True)
    book, nobody = bought.after.id, new()
    with pytest.raises(NoSuchBook) as refusal:
        await service.execute(yielding, nobody, Rename("Dubliners"), CONTEXT)
    assert refusal.value.aggregate_id == nobody
    lend = Lend(book, "ada")
    lent = await service.execute_together(loan, (book, "ada"), lend, keyed("k2"))
    assert (lent.after.state.copies, lent.events[-1]["idempotency_key"]) == (1, "k2")
    with pytest.raises(NotOnShelf) as not_there:
        await service.execute_together(loan, (nobody, "ada"), lend, CONTEXT)
    assert not_there.value.aggregate_id == nobody


# ------------------------------------------------------------------ over several aggregates


async def lend(
    service: CommandService, book: str, reader: str, context: CommandContext = CONTEXT
) -> Any:
    return await service.execute_together(LOAN, (book, reader), Lend(book, reader), context)


async def test_a_joint_command_over_two_kinds_is_whole(
    library: CommandService, store: AnyStore
) -> None:
    book, reader = (await library.create(BOOK, Buy("Ulysses"), CONTEXT)).after.id, new()
    done = await lend(library, book, reader, keyed("k"))
    assert (done.after.id, done.after.state.copies) == (book, 0)
    for service in (library, await opened(store)):
        again = await lend(service, book, reader, keyed("k"))
        assert (again.after, again.events, again.replayed) == (done.after, done.events, True)
    [_, taken], [borrowed] = await sound(store, book), await sound(store, reader)
    assert borrowed["causation_id"] == taken["_id"]
    assert (taken["idempotency_key"], borrowed.get("idempotency_key")) == ("k", None)
    with pytest.raises(NotOnShelf) as refusal:
        await lend(library, book, new())
    assert refusal.value.aggregate_id == book
    await library.execute(BOOK, book, Buy("Ulysses", 5), CONTEXT)
    await lend(library, book, reader)
    await lend(library, book, reader)
    with pytest.raises(TooManyBooks) as too_many:
        await lend(library, book, reader)
    assert too_many.value.aggregate_id == reader
    assert (await library.get(READER, reader)).state.books == (book,) * 3
    assert (await library.get(BOOK, book)).state.copies == 3


async def test_a_joint_command_may_compare_states(library: CommandService, store: AnyStore) -> None:
    """Also one that another service has just changed."""
    reader, other = new(), await opened(store)
    easy, hard = [
        (await library.create(BOOK, Buy("x", 5, level), CONTEXT)).after.id for level in (0, 2)
    ]
    with pytest.raises(TooDifficult):
        await lend(library, hard, reader)
    await lend(other, easy, reader)
    await lend(library, hard, reader)
    assert (await other.get(READER, reader)).state.books == (easy, hard)


async def test_joint_commands_contend_and_stay_whole(
    library: CommandService, store: AnyStore
) -> None:
    """Three readers, each on both services, and five copies: a reader gets three at most."""
    services = [library, await opened(store)]
    book = (await library.create(BOOK, Buy("Ulysses", 5), CONTEXT)).after.id
    readers = [new() for _ in range(3)]
    results = await asyncio.gather(
        *(lend(services[n % 2], book, readers[n % 3]) for n in range(rounds(24, 120))),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, BaseException)]
    assert {type(each) for each in refused} <= {NotOnShelf, TooManyBooks}
    assert len(results) - len(refused) == 5
    assert len(await sound(store, book)) == 10
    lent = [event["body"]["book"] for each in readers for event in await sound(store, each)]
    assert lent == [book] * 5


async def test_a_joint_command_is_over_different_aggregates_and_each_gets_an_event(
    library: CommandService, store: AnyStore
) -> None:
    book = (await library.create(BOOK, Buy("Ulysses", 5), CONTEXT)).after.id
    reader = new()

    def lacking(command: Lend, book: Book, _: Reader) -> Iterator[Sequence[Decision]]:
        yield BOOK.decide(TakeCopy(), book)

    def nothing(command: Lend, book: Book, _: Reader) -> Iterator[Sequence[Decision]]:
        yield BOOK.decide(TakeCopy(), book)
        yield []

    def too_many(command: Lend, book: Book, reader: Reader) -> Iterator[Sequence[Decision]]:
        for _ in range(3):
            yield READER.decide(Borrow("b"), reader) if _ else BOOK.decide(TakeCopy(), book)

    stored = await store.count()
    for decide, why in ((lacking, "nothing"), (nothing, "nothing"), (too_many, "more than 2")):
        joint = Joint[Lend]("loan", (BOOK, READER), decide)
        with pytest.raises(ValueError, match=why):
            await library.execute_together(joint, (book, reader), Lend(book, reader), CONTEXT)
    twice = Joint[Lend]("twins", (BOOK, BOOK), LOAN.decide)
    with pytest.raises(SameAggregate):
        await library.execute_together(twice, (book, book), Lend(book, reader), CONTEXT)
    assert await store.count() == stored


async def test_a_refusal_of_no_aggregate_s_turn_is_the_first_s(library: CommandService) -> None:
    book, reader = (await library.create(BOOK, Buy("Ulysses"), CONTEXT)).after.id, new()

    def before(*_: Any) -> Iterator[Sequence[Decision]]:
        raise TooDifficult

    def after(command: Lend, book: Book, reader: Reader) -> Iterator[Iterable[Decision]]:
        yield from LOAN.decide(command, book, reader)
        raise TooDifficult

    def of_another(command: Lend, *_: Any) -> Iterator[Sequence[Decision]]:
        raise TooDifficult(aggregate_id=command.reader)

    refusing: list[tuple[Any, str]] = [(before, book), (after, book), (of_another, reader)]
    for decide, whose in refusing:
        joint = Joint[Lend]("loan", (BOOK, READER), decide)
        with pytest.raises(TooDifficult) as refusal:
            await library.execute_together(joint, (book, reader), Lend(book, reader), CONTEXT)
        assert refusal.value.aggregate_id == whose
    assert (await library.get(BOOK, book)).version == 1


# ------------------------------------------------------------------ snapshots


@pytest.fixture
async def forgetful(store: AnyStore) -> CommandService:
    service = CommandService(store, [BOOK, READER], cached=0)
    await service.open()
    return service


async def test_each_kind_has_snapshots_of_its_own(
    library: CommandService, forgetful: CommandService, store: AnyStore
) -> None:
    book = (await library.create(BOOK, Buy("Ulysses", 101), CONTEXT)).after
    assert await forgetful.get(BOOK, book.id) == book
    await eventually(lambda: store.snapshots.find(book.id))
    kept = await store.snapshots.find(book.id)
    assert kept is not None
    assert kept["state"] == {"title": "Ulysses", "copies": 101, "level": 0}
    walked = list[int]()
    walk = store.walk
    store.walk = lambda *args, after=0, **more: (  # type: ignore[method-assign]
        walked.append(after) or walk(*args, after=after, **more)  # type: ignore[func-returns-value]
    )
    assert await forgetful.get(BOOK, book.id) == book
    assert walked == [100]


async def test_a_codec_that_fails_fails_no_command_and_no_load(
    store: AnyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It is called after the events are stored: an error would be told of what has happened."""

    def broken(_: Any) -> Any:
        raise AttributeError("broken")

    for codec in ({"to_json": broken}, {"of_json": broken}):
        aggregate = like_a_book(**{"to_json": BOOK.to_json, "of_json": BOOK.of_json} | codec)
        service = CommandService(store, [aggregate])
        await service.open()
        book = (await service.create(aggregate, Buy("Ulysses", 99), CONTEXT)).after.id
        bought = await service.execute(aggregate, book, Buy("Ulysses", 2), CONTEXT)
        assert bought.after.version == 101
    sound_one = CommandService(store, [BOOK], cached=0)
    await sound_one.open()
    assert await sound_one.get(BOOK, book) == bought.after
    await eventually(lambda: store.snapshots.find(book))
    forgetful = CommandService(store, [aggregate], cached=0)
    await forgetful.open()
    caplog.clear()
    for _ in range(2):
        assert await forgetful.get(aggregate, book) == bought.after
    warned = [each for each in caplog.records if each.levelname == "WARNING"]
    assert [each.message for each in warned] == [f"The snapshot of book {book} can't be read"]


async def test_an_id_is_of_one_aggregate(library: CommandService) -> None:
    book = (await library.create(BOOK, Buy("Emma"), CONTEXT)).after.id
    reader = (await library.create(READER, Borrow(book), CONTEXT)).after.id
    with pytest.raises(AggregateNotFound):
        await library.get(READER, book)
    with pytest.raises(OfAnotherAggregate) as refusal:
        await library.execute(READER, book, Borrow("b"), CommandContext("c", new(), "request"))
    assert refusal.value.aggregate_id == book
    with pytest.raises(OfAnotherAggregate) as refusal:
        await library.execute_together(LOAN, (reader, new()), Lend(reader, "r"), CONTEXT)
    assert refusal.value.aggregate_id == reader
