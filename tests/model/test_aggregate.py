"""Aggregates as values: what they are made of, their schemas, and the JSON of their states."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from pipeline.application import Application
from pipeline.commands.snapshots import snapshot_of, trusted
from pipeline.model.aggregate import Aggregate, Joint
from pipeline.model.chain import digest, link
from pipeline.model.events import Event, new_event
from pipeline.model.names import InvalidName
from pipeline.model.versioned import AggregateUnreadable, Versioned, fold
from tests.commands.library import BOOK, LOAN, READER, Book, Buy, Reader, Rename, like_a_book

ID = "01JD0000000000000000000000"


def _with_level(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event["body"], "level": 1}


def _named_title(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"title": event["body"]["name"]}


def test_upcasters_of_its_own_lead_to_the_newest_schema() -> None:
    steps = {("CopyBought", 1): _named_title, ("CopyBought", 2): _with_level}
    newer = like_a_book(upcasters=steps)
    assert newer.schemas == {"BookRenamed": 1, "CopyBought": 3, "CopyTaken": 1}
    first = new_event(ID, 1, "CopyBought", {"name": "Ulysses"}, schema=1)
    link(first, "0" * 64)
    second = new_event(ID, 2, "CopyBought", {"title": "Ulysses"}, schema=2)
    third = new_event(ID, 3, "CopyBought", {"title": "Ulysses", "level": 5}, schema=3)
    folded = fold(newer, ID, [first, second])
    assert folded.state == Book("Ulysses", 2, 1)
    assert folded.hash == digest(second), "of the event as it is stored"
    assert fold(newer, ID, [first, second, third]).state == Book("Ulysses", 3, 5)
    with pytest.raises(AggregateUnreadable, match="schema 3 of CopyBought is newer than 1"):
        fold(BOOK, ID, [{**third, "version": 1}])


@pytest.mark.parametrize("error", [AttributeError, IndexError, ZeroDivisionError])
def test_whatever_evolve_raises_makes_the_aggregate_unreadable(error: type[Exception]) -> None:
    def evolve(_: Book, __: Event) -> Book:
        raise error("broken")

    event = new_event(ID, 1, "CopyTaken", {}, schema=1)
    with pytest.raises(AggregateUnreadable, match="version 1: broken"):
        fold(like_a_book(evolve=evolve), ID, [event])


def test_what_does_not_fit_together_is_an_error() -> None:
    with pytest.raises(ValueError, match="BookBurnt"):
        like_a_book(upcasters={("BookBurnt", 1): _with_level})
    with pytest.raises(TypeError, match="to_json"):
        like_a_book(initial=lambda: ("Ulysses", 1))


def versioned(state: Any) -> Versioned[Any]:
    return Versioned(ID, state, 100, "an event")


def test_a_state_comes_back_from_its_snapshot_or_has_none() -> None:
    book, reader = Book("Ulysses", 2, 1), Reader(("a", "b"), 2)
    assert trusted(BOOK, snapshot_of(BOOK, versioned(book))) == versioned(book)
    assert trusted(READER, snapshot_of(READER, versioned(reader))) == versioned(reader)
    plain: Aggregate[Any, Reader] = Aggregate(
        "reader",
        initial=Reader,
        decide=READER.decide,
        evolve=READER.evolve,
        kinds=READER.schemas,
    )
    assert snapshot_of(plain, versioned(reader)) is None, "JSON makes a list of the tuple"


@dataclass(frozen=True, slots=True)
class Dated:
    at: datetime | int | None = None


@pytest.mark.parametrize("at", [datetime(2026, 3, 1), 2**70, float("nan")])
def test_what_json_has_not_is_in_no_snapshot(at: Any) -> None:
    def evolve(state: Dated, _: Event) -> Dated:
        return state

    dated: Aggregate[Any, Dated] = Aggregate(
        "dated", initial=Dated, decide=lambda _, __: [], evolve=evolve, kinds=["Dated"]
    )
    assert snapshot_of(dated, versioned(Dated(at))) is None
    assert snapshot_of(dated, versioned(Dated(5))) is not None


@pytest.mark.parametrize("error", [AttributeError, IndexError, ZeroDivisionError, KeyError])
def test_a_codec_that_raises_makes_and_reads_no_snapshot(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Any:
        raise error("broken")

    state = versioned(Book("Ulysses"))
    for codec in ({"to_json": broken}, {"of_json": broken}):
        book = like_a_book(**{"to_json": BOOK.to_json, "of_json": BOOK.of_json} | codec)
        assert snapshot_of(book, state) is None
    assert caplog.messages == [f"No snapshot of book {ID}"] * 2
    assert trusted(book, snapshot_of(BOOK, state)) is None
    assert caplog.messages[2:] == [f"The snapshot of book {ID} can't be read"]


def test_commands_for_http_are_dataclasses_of_different_names() -> None:
    assert like_a_book(commands=[Buy, Rename]).commands == {"Buy": Buy, "Rename": Rename}
    with pytest.raises(TypeError, match="book: the command int is no dataclass"):
        like_a_book(commands=[int])
    with pytest.raises(ValueError, match="book has two commands Buy"):
        like_a_book(commands=[Buy, Buy])


def test_what_is_done_once_has_a_key_that_no_client_can_send() -> None:
    def once(command: Any) -> str:
        return f"copy {command}"

    command: Any = 7
    assert LOAN.only_key(command) is None
    returning = Joint[Any]("return", (BOOK, READER), LOAN.decide, once=once)
    assert returning.only_key(7) == "return→copy 7"
    with pytest.raises(ValueError, match="the first aggregate's event has the client's key"):
        Joint("return", (BOOK,), LOAN.decide, once=once)


def test_an_application_s_aggregates_have_different_names() -> None:
    library = Application("library", aggregates=[BOOK], joints=[LOAN])
    assert library.all_aggregates == (BOOK, READER)
    for twice in ({"aggregates": [BOOK, like_a_book()]}, {"joints": [LOAN, LOAN]}):
        with pytest.raises(ValueError, match="library has two of the name"):
            Application("library", **twice)


def test_an_application_s_aggregates_have_no_kind_in_common() -> None:
    """One would be read as the other."""
    magazine = like_a_book(name="magazine", kinds=["IssueBought", "BookRenamed"])
    with pytest.raises(ValueError, match="library: BookRenamed is a kind of book and of magazine"):
        Application("library", aggregates=[BOOK, magazine])


@pytest.mark.parametrize("name", ["", "Book", "a-book", "a book", "book/{id}", "1st", "b" * 32])
def test_an_aggregate_s_name_fits_into_routes_and_metrics(name: str) -> None:
    with pytest.raises(InvalidName, match="names no aggregate"):
        like_a_book(name=name)
