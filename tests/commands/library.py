"""Another application than the bank: books and readers of a library, for tests of the engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.model.aggregate import Aggregate, Decision, Joint, Refused
from pipeline.model.events import Event


class NoSuchBook(Refused):
    """It was never bought."""


class NotOnShelf(Refused):
    """All copies are lent."""


class TooManyBooks(Refused):
    """The reader has as many as a reader may have."""


class TooDifficult(Refused):
    """A rule that needs both states."""


@dataclass(frozen=True, slots=True)
class Book:
    title: str = ""
    copies: int = 0
    level: int = 0


@dataclass(frozen=True, slots=True)
class Buy:
    """So many copies, an event each."""

    title: str
    copies: int = 1
    level: int = 0


@dataclass(frozen=True, slots=True)
class TakeCopy:
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Rename:
    """Nothing to do if it has that title."""

    title: str


def decide_book(command: Buy | TakeCopy | Rename, book: Book) -> Sequence[Decision]:
    match command:
        case Buy(title, copies, level):
            return [Decision("CopyBought", {"title": title, "level": level})] * copies
        case TakeCopy(reader):
            if not book.copies:
                raise NotOnShelf
            return [Decision("CopyTaken", {"reader": reader})]
        case Rename(title):
            if not book.title:
                raise NoSuchBook
            return [] if title == book.title else [Decision("BookRenamed", {"title": title})]


def evolve_book(book: Book, event: Event) -> Book:
    body = event["body"]
    match event["kind"]:
        case "CopyBought":
            return Book(body["title"], book.copies + 1, body["level"])
        case "CopyTaken":
            return replace(book, copies=book.copies - 1)
        case _:
            return replace(book, title=body["title"])


BOOK: Final = Aggregate[Buy | TakeCopy | Rename, Book](
    "book",
    initial=Book,
    decide=decide_book,
    evolve=evolve_book,
    kinds=("CopyBought", "CopyTaken", "BookRenamed"),
)


def like_a_book(**options: Any) -> Aggregate[Any, Book]:
    """The book, but for these."""
    given: dict[str, Any] = {
        "name": "book",
        "initial": Book,
        "decide": decide_book,
        "evolve": evolve_book,
        "kinds": BOOK.schemas,
    }
    return Aggregate(**{**given, **options})


@dataclass(frozen=True, slots=True)
class Reader:
    """`books` is a tuple, which JSON does not know."""

    books: tuple[str, ...] = ()
    level: int = 0


@dataclass(frozen=True, slots=True)
class Borrow:
    book: str


def decide_reader(command: Borrow, reader: Reader) -> Sequence[Decision]:
    if len(reader.books) == 3:
        raise TooManyBooks
    return [Decision("BookBorrowed", {"book": command.book})]


def evolve_reader(reader: Reader, event: Event) -> Reader:
    return Reader((*reader.books, event["body"]["book"]), reader.level + 1)


def reader_of_json(json: Mapping[str, Any]) -> Reader:
    return Reader(tuple(json["books"]), json["level"])


READER: Final = Aggregate[Borrow, Reader](
    "reader",
    initial=Reader,
    decide=decide_reader,
    evolve=evolve_reader,
    kinds=("BookBorrowed",),
    to_json=lambda reader: {"books": [*reader.books], "level": reader.level},
    of_json=reader_of_json,
)


@dataclass(frozen=True, slots=True)
class Lend:
    book: str
    reader: str


def decide_loan(command: Lend, book: Book, reader: Reader) -> Iterator[Sequence[Decision]]:
    taken = decide_book(TakeCopy(command.reader), book)
    if book.level > reader.level + 1:
        raise TooDifficult
    yield taken
    yield decide_reader(Borrow(command.book), reader)


LOAN: Final = Joint[Lend]("loan", (BOOK, READER), decide_loan)
