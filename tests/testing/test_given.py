"""Given, when, then: what holds passes, what does not is told with both sides."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from pipeline.model.aggregate import Aggregate, Decision, Joint
from pipeline.model.chain import Chain
from pipeline.model.events import Event, new_event
from pipeline.model.versioned import AggregateUnreadable
from pipeline.testing import given
from pipeline.testing.envelopes import history
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
)

BOUGHT = Decision("CopyBought", {"title": "Ulysses", "level": 0})
TAKEN = Decision("CopyTaken", {"reader": "Ada"})
LENT = Decision("BookBorrowed", {"book": "Ulysses"})


def test_what_is_decided_is_compared_and_so_is_the_state() -> None:
    given(BOOK).when(Buy("Ulysses", 2)).then(BOUGHT, BOUGHT).state(Book("Ulysses", 2))
    given(BOOK, BOUGHT, BOUGHT).when(TakeCopy("Ada")).then(TAKEN).state(Book("Ulysses", 1))
    given(BOOK, BOUGHT).when(Rename("Ulysses")).then().state(Book("Ulysses", 1))
    given(READER, LENT).when(Borrow("Ulysses")).then(LENT).state(Reader(("Ulysses",) * 2, 2))


def test_a_refusal_is_returned() -> None:
    outcome = given(BOOK, BOUGHT, TAKEN).when(TakeCopy("Eve"))
    refusal: NotOnShelf = outcome.refused(NotOnShelf)
    assert isinstance(refusal, NotOnShelf)
    outcome.state(Book("Ulysses", 0))


def test_what_happened_may_be_events_too() -> None:
    bought = new_event("b", 1, BOUGHT.kind, BOUGHT.body, schema=1)
    given(BOOK, bought, BOUGHT).when(TakeCopy("Ada")).then(TAKEN).state(Book("Ulysses", 1))
    with pytest.raises(AggregateUnreadable, match="version 1 after 1"):
        given(BOOK, bought, bought).when(TakeCopy("Ada"))


def test_an_event_of_an_older_schema_is_read_by_the_aggregates_upcasters() -> None:
    newer = Aggregate[Buy | TakeCopy | Rename, Book](
        "book",
        initial=Book,
        decide=BOOK.decide,
        evolve=BOOK.evolve,
        kinds=BOOK.schemas,
        upcasters={("CopyBought", 1): lambda event: {**event["body"], "level": 0}},
    )
    old = new_event("b", 1, "CopyBought", {"title": "Ulysses"}, schema=1)
    given(newer, old).when(TakeCopy("Ada")).then(TAKEN)
    given(newer).when(Buy("Ulysses")).then(BOUGHT)


def test_a_joint_command_is_decided_over_all() -> None:
    lend = Lend("Ulysses", "Ada")
    outcome = given(LOAN, [BOUGHT], []).when(lend)
    outcome.then([TAKEN], [LENT]).state(Book("Ulysses", 0), Reader(("Ulysses",), 1))
    given(LOAN, [], [LENT]).when(lend).refused(NotOnShelf)
    hard = Decision("CopyBought", {"title": "Finnegans Wake", "level": 5})
    given(LOAN, [hard], []).when(lend).refused(TooDifficult)


def test_a_joint_command_is_given_a_history_for_each() -> None:
    for histories in ([], [[BOUGHT]], [[BOUGHT], [], []]):
        with pytest.raises(ValueError, match="zip"):
            given(LOAN, *histories).when(Lend("Ulysses", "Ada"))


def lacking(command: Lend, book: Book, _: Reader) -> Iterator[Sequence[Decision]]:
    yield BOOK.decide(TakeCopy(command.reader), book)


def nothing(command: Lend, book: Book, reader: Reader) -> Iterator[Sequence[Decision]]:
    yield from lacking(command, book, reader)
    yield []


def too_many(command: Lend, book: Book, reader: Reader) -> Iterator[Iterable[Decision]]:
    yield from LOAN.decide(command, book, reader)
    yield [LENT]


@pytest.mark.parametrize("decide", [lacking, nothing, too_many])
def test_a_joint_command_decides_for_each_and_for_no_other(decide: Any) -> None:
    joint = Joint[Lend]("loan", (BOOK, READER), decide)
    with pytest.raises(AssertionError, match="loan must decide for each of 2"):
        given(joint, [BOUGHT], []).when(Lend("Ulysses", "Ada"))


# ------------------------------------------------------------------ what does not hold


def test_what_differs_is_shown_with_both_sides() -> None:
    outcome = given(BOOK, BOUGHT).when(TakeCopy("Ada"))
    with pytest.raises(AssertionError) as told:
        outcome.then(Decision("CopyTaken", {"reader": "Eve"}))
    assert str(told.value).splitlines() == [
        "decided:",
        "--- expected",
        "+++ actual",
        "@@ -1 +1 @@",
        "-[Decision(kind='CopyTaken', body={'reader': 'Eve'})]",
        "+[Decision(kind='CopyTaken', body={'reader': 'Ada'})]",
    ]
    with pytest.raises(AssertionError, match="decided:"):
        outcome.then()
    with pytest.raises(AssertionError, match="state:"):
        outcome.state(Book("Ulysses", 1))


def test_a_refusal_that_was_not_expected_is_shown() -> None:
    refused, taken = given(BOOK).when(Rename("Ulysses")), given(BOOK, BOUGHT).when(TakeCopy("Ada"))
    with pytest.raises(AssertionError, match="refused: NoSuchBook"):
        refused.then()
    with pytest.raises(AssertionError, match="not NotOnShelf: NoSuchBook"):
        refused.refused(NotOnShelf)
    with pytest.raises(
        AssertionError, match=r"not refused by NoSuchBook, but decided: .*CopyTaken"
    ):
        taken.refused(NoSuchBook)


@dataclass(frozen=True)
class Write:
    kind: str
    body: Any


def anything(name: str, *kinds: str) -> Aggregate[Write, Book]:
    return Aggregate[Write, Book](
        name,
        initial=Book,
        decide=lambda command, _: [Decision(command.kind, command.body)],
        evolve=lambda _, event: Book(event["body"]["title"]),
        kinds=kinds,
    )


@pytest.mark.parametrize("body", [{"title": {"a"}}, {"title": ("a", "b")}, {"title": 1 << 70}])
def test_a_body_that_can_not_be_stored_as_it_is_fails(body: Any) -> None:
    with pytest.raises(AssertionError, match="Written can't be stored"):
        given(anything("paper", "Written")).when(Write("Written", body))


def test_what_the_engine_would_not_take_fails() -> None:
    paper = anything("paper", "Written")
    with pytest.raises(ValueError, match="paper decides Torn"):
        given(paper).when(Write("Torn", {"title": "a"}))
    with pytest.raises(AggregateUnreadable, match="'title'"):
        given(paper).when(Write("Written", {}))


@dataclass
class Pages:
    titles: list[str] = field(default_factory=list)


def decided(command: Write, _: Pages) -> list[Decision]:
    return [Decision(command.kind, command.body)]


def evolved(pages: Pages, event: Event) -> Pages:
    return Pages([*pages.titles, event["body"]["title"]])


def decided_within(command: Write, pages: Pages) -> list[Decision]:
    pages.titles.append("a")
    return decided(command, pages)


def refused_after_all(command: Write, pages: Pages) -> list[Decision]:
    pages.titles.append("a")
    raise NoSuchBook


def evolved_within(pages: Pages, event: Event) -> Pages:
    pages.titles.append(event["body"]["title"])
    return pages


def emptied(pages: Pages, event: Any) -> Pages:
    return Pages([*pages.titles, event["body"].pop("title")])


@pytest.mark.parametrize(
    ("decide", "evolve", "by"),
    [
        (decided_within, evolved, "decide"),
        (refused_after_all, evolved, "decide"),
        (decided, evolved_within, "evolve"),
        (decided, emptied, "evolve"),
    ],
)
def test_what_is_given_must_not_be_changed(decide: Any, evolve: Any, by: str) -> None:
    """The engine keeps it: with the next command it would be wrong."""
    paper = Aggregate[Write, Pages](
        "paper", initial=Pages, decide=decide, evolve=evolve, kinds=["Written"]
    )
    before = [] if by == "decide" else [Decision("Written", {"title": "a"})]
    with pytest.raises(AssertionError, match=f"paper: {by} changes what it is given"):
        given(paper, *before).when(Write("Written", {"title": "b"}))


# ------------------------------------------------------------------ the envelopes


def seen(event: Event) -> tuple[str, datetime]:
    return event["_id"], event["created_at"]


def test_events_are_always_the_same_and_in_order() -> None:
    decisions = [BOUGHT, TAKEN, BOUGHT]
    first, again, other = [history(decisions, BOOK.schema_of, number) for number in (1, 1, 2)]
    assert first == again
    assert {each["account_id"] for each in first}.isdisjoint(each["account_id"] for each in other)
    assert [each["version"] for each in first] == [1, 2, 3]
    assert sorted(first, key=seen) == first
    assert len({each["_id"] for each in first + other}) == 6
    chain = Chain()
    assert [chain.follow(each) for each in first] == [None] * 3
    assert first[0].keys() == new_event("b", 1, "x", {}, schema=1).keys() | {"hash", "previous"}
