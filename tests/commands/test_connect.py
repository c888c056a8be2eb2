"""`connect`: commands to an application's aggregates from any program, by their names."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pymongo.collection import Collection
from ulid import ULID

from pipeline.application import Application
from pipeline.banking.application import BANK
from pipeline.commands import (
    AggregateNotFound,
    Connection,
    KeyReused,
    NotInApplication,
    StoreUnavailable,
    StoreUnguarded,
    VersionMismatch,
    connect,
    connection_to,
)
from pipeline.eventstore import EventStore
from pipeline.model import upcasters as upcasting
from pipeline.model.aggregate import Aggregate, Decision, Joint
from pipeline.model.claims import CLAIM, Claim, Take, claim_id
from pipeline.model.projection import Projection
from pipeline.model.upcasters import upcast
from pipeline.support.settings import Settings, SettingsError
from pipeline.testing import InMemoryEventStore
from tests.commands.library import (
    BOOK,
    LOAN,
    Book,
    Borrow,
    Buy,
    Lend,
    NoSuchBook,
    Reader,
    Rename,
    TakeCopy,
)
from tests.harness import eventually
from tests.ports import free_port

KINDS = Projection("kinds", lambda _, event: {"kind": event["kind"]}, {"kind": {"type": "keyword"}})
LIBRARY = Application("library", aggregates=[BOOK], joints=[LOAN], projections=[KINDS])
NAMED = "tests.commands.test_connect:LIBRARY"


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """In the environment, as people set them: the MongoDB of the tests, and the library."""
    for name in [each for each in os.environ if each.startswith("BANK_") and "_TEST_" not in each]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BANK_MONGODB_URL", settings.mongodb_url)
    monkeypatch.setenv("BANK_MONGODB_DATABASE", settings.mongodb_database)
    monkeypatch.setenv("BANK_APPLICATION", NAMED)
    return settings


@pytest.mark.usefixtures("environment")
async def test_names_and_values_are_the_same() -> None:
    async with connect(LIBRARY) as library:
        bought = await library.create("book", Buy("Ulysses", copies=2))
        assert [event["kind"] for event in bought.events] == ["CopyBought", "CopyBought"]
        book = bought.after.id
        assert (bought.after.version, bought.after.state) == (2, Book("Ulysses", 2))
        taken = await library.execute(BOOK, book, TakeCopy("Ada"), correlation_id="a walk")
        assert taken.events[0]["correlation_id"] == "a walk"
        assert await library.get("book", book) == taken.after == await library.get(BOOK, book)
        reader = str(ULID())
        lent = await library.together("loan", (book, reader), Lend(book, reader))
        assert lent.after.state == Book("Ulysses", 0)
        # Of an aggregate that only the joint command names.
        assert (await library.get("reader", reader)).state == Reader((book,), 1)
    async with connect(LIBRARY) as again:
        assert await again.get("book", book) == lent.after
        await again.together(LOAN, (await new(again), reader), Lend(book, reader))


async def new(library: Connection) -> str:
    return (await library.create("book", Buy("Emma"))).after.id


@pytest.mark.usefixtures("environment")
async def test_a_key_is_of_one_command() -> None:
    async with connect(LIBRARY) as library:
        book, other = await new(library), await new(library)
        first = await library.execute("book", book, Rename("Emma, again"), key="k1")
        again = await library.execute("book", book, Rename("Emma, again"), key="k1")
        assert (again.replayed, again.after) == (True, first.after)
        for aggregate, aggregate_id, command in (
            ("book", book, Rename("Persuasion")),
            ("book", book, Buy("Emma, again")),
            ("book", other, Rename("Emma, again")),
            ("reader", book, Borrow("Emma, again")),
        ):
            with pytest.raises(KeyReused):
                await library.execute(aggregate, aggregate_id, command, key="k1")
        made = await library.create("book", Buy("Emma"), key="k2")
        assert (await library.create("book", Buy("Emma"), key="k2")).after == made.after
        reader = str(ULID())
        lent = await library.together("loan", (book, reader), Lend(book, reader), key="k3")
        repeated = await library.together("loan", (book, reader), Lend(book, reader), key="k3")
        assert (repeated.replayed, repeated.after) == (True, lent.after)


@dataclass(frozen=True)
class BuyLike(Buy):
    """A field of any type."""

    like: Any = None


async def test_with_a_key_a_command_looks_the_same_in_every_process() -> None:
    async with connect(LIBRARY, store=InMemoryEventStore()) as library:
        for number, unlike in enumerate((object(), [lambda: None], {1: "a", "b": 2})):
            await library.create("book", BuyLike("Emma", like=unlike))
            with pytest.raises(TypeError):
                await library.create("book", BuyLike("Emma", like=unlike), key=f"k{number}")


def test_a_fingerprint_does_not_depend_on_the_process() -> None:
    program = (
        "from datetime import date; from pipeline.commands.connection import fingerprint;"
        "print(fingerprint('a', ['b'], [date(2026, 3, 1), {frozenset('xyz'), frozenset('abc')}]))"
    )
    seeds = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in range(2)]
    shown = {subprocess.check_output([sys.executable, "-c", program], env=each) for each in seeds}
    assert len(shown) == 1


@pytest.mark.usefixtures("environment")
async def test_a_version_is_a_condition() -> None:
    async with connect(LIBRARY) as library:
        book = str(ULID())
        await library.execute("book", book, Buy("Emma"), version=0)
        for version in (0, 2):
            with pytest.raises(VersionMismatch) as mismatch:
                await library.execute("book", book, TakeCopy(), version=version)
            assert mismatch.value.version == 1
        assert (await library.execute("book", book, TakeCopy(), version=1)).after.version == 2


@pytest.mark.usefixtures("environment")
async def test_what_is_refused_is_told_and_leaves_nothing(store: EventStore) -> None:
    async with connect(LIBRARY) as library:
        for named in ("boook", "loan", CLAIM):
            with pytest.raises(NotInApplication, match="no aggregate"):
                await library.create(named, Buy("Emma"))
        with pytest.raises(NotInApplication, match="no joint command 'book', only loan"):
            await library.together("book", ("a", "b"), Lend("a", "b"))
        for bad in ("", "a b", "é", "a" * 65, "a.b", "a\n"):
            with pytest.raises(ValueError, match="is no id"):
                await library.execute("book", bad, Buy("Emma"))
            with pytest.raises(ValueError, match="is no id"):
                await library.together("loan", ("a", bad), Lend("a", bad))
        with pytest.raises(NoSuchBook):
            await library.execute("book", "emma", Rename("Emma"))
        with pytest.raises(AggregateNotFound):
            await library.get("book", "emma")
        with pytest.raises(NotInApplication, match="no aggregate 'book', and none"):
            await Connection(Application("bare"), store).get("book", "emma")
    assert await store.count() == 0


async def test_an_id_of_a_claim_is_no_other_aggregate_s() -> None:
    """Who guesses the key would have it for ever: a claim with such an event is unreadable."""
    taken = claim_id("isbn/1")
    numbering = Joint[Take]("numbering", (BOOK, CLAIM), number)
    application = Application("numbers", aggregates=[BOOK], joints=[numbering])
    async with connect(application, store=InMemoryEventStore()) as numbers:
        for attempt in (
            numbers.execute("book", taken, Buy("Emma")),
            numbers.together("numbering", (taken, "claim-2"), Take("emma")),
        ):
            with pytest.raises(ValueError, match=f"'{taken}' is no id of a book, but of a claim"):
                await attempt
        await numbers.together("numbering", ("emma", taken), Take("emma"))
        assert (await numbers.get("claim", taken)).state.by == "emma"


def number(command: Take, book: Book, claim: Claim) -> Iterator[Sequence[Decision]]:
    yield BOOK.decide(Buy("Emma"), book)
    yield CLAIM.decide(command, claim)


@pytest.mark.usefixtures("environment")
async def test_guards_that_were_lost_are_built_again(
    events: Collection[dict[str, Any]],
) -> None:
    """Without anybody who looks, a command that was refused once would always be."""
    async with connect(LIBRARY) as library:
        await new(library)

        async def refused() -> bool:
            # Each time: they may be built again before a command looks.
            events.drop_indexes()
            return not await taken(library)

        await eventually(refused)
        await eventually(lambda: taken(library))


async def taken(library: Connection) -> bool:
    try:
        await new(library)
    except StoreUnguarded:
        return False
    return True


@pytest.mark.usefixtures("environment")
async def test_a_store_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_MONGODB_URL", f"mongodb://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="could not be opened"):
        async with connect(LIBRARY, patience=0.2):
            pass


async def test_settings_of_another_application_are_refused(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="it is bank, which is not library"):
        async with connect(LIBRARY, environment):
            pass
    monkeypatch.setenv("BANK_APPLICATION", "bank")
    with pytest.raises(SettingsError, match="BANK_APPLICATION: it is bank, which is not library"):
        async with connect(LIBRARY):
            pass
    async with connect(BANK, environment) as bank:
        with pytest.raises(AggregateNotFound):
            await bank.get("account", str(ULID()))


async def test_a_database_without_an_application_is_the_bank_s(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its forwarder publishes whatever is stored there."""
    monkeypatch.setenv("BANK_APPLICATION", "")
    with pytest.raises(SettingsError, match="BANK_MONGODB_DATABASE: set BANK_APPLICATION, too"):
        connection_to(LIBRARY)
    connection: Any = connection_to(BANK)
    assert connection.store._events.database.name == environment.mongodb_database
    await connection.close()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("application", ["", NAMED])
async def test_the_database_is_the_application_s_where_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    monkeypatch.setenv("BANK_MONGODB_DATABASE", "")
    monkeypatch.setenv("BANK_APPLICATION", application)
    connection: Any = connection_to(LIBRARY)
    assert connection.store._events.database.name == "library"
    await connection.close()


async def test_a_store_needs_no_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_NO_SUCH_SETTING", "1")
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    async with connect(LIBRARY, store=store) as library:
        book = (await library.create("book", Buy("Emma"))).after
    with pytest.raises(Exception, match="close"):
        await store.load(book.id)


def test_an_aggregate_goes_by_its_own_upcasters_in_a_process_of_another_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = {("CopyBought", 1): lambda event: {"title": event["body"]["title"], "level": 7}}
    book = Aggregate(
        "book",
        initial=Book,
        decide=BOOK.decide,
        evolve=BOOK.evolve,
        kinds=BOOK.schemas,
        upcasters=steps,
    )
    monkeypatch.setattr(upcasting, "_chosen", {("CopyBought", 1): lambda event: {}})
    old: Any = {"kind": "CopyBought", "schema": 1, "body": {"title": "Emma"}}
    brought = upcast(old)
    assert (brought["body"], brought["schema"]) == ({}, 2)
    assert book.newest_form(brought)["body"] == {"title": "Emma", "level": 7}
