"""Documents after some events: what holds passes, what does not is told with both sides."""

from typing import Any

import pytest

from pipeline.application import Application
from pipeline.banking.balance import BALANCE
from pipeline.banking.events import CREATED, DEPOSITED, OWNER_UPDATED
from pipeline.banking.statement import STATEMENT
from pipeline.model.aggregate import Decision
from pipeline.model.events import new_event
from pipeline.model.projection import Projection, Unfoldable
from pipeline.testing import projected
from tests.apps.post import PLACES, SCANNED, SCANS, SENT
from tests.commands.library import BOOK

SENDING = Decision(SENT, {"to": "Ada", "at": "Porto"})
SCAN = Decision(SCANNED, {"at": "Lisboa"})


def test_a_view_shows_its_last_document() -> None:
    projected(PLACES, SENDING).shows({"to": "Ada", "at": "Porto", "scans": 0})
    projected(PLACES, SENDING, SCAN).shows({"to": "Ada", "at": "Lisboa", "scans": 1})
    projected(PLACES).shows(None)
    projected(PLACES).shows()


def test_a_list_shows_the_document_of_each_event() -> None:
    projected(SCANS, SENDING, SCAN).shows({"at": "Porto"}, {"at": "Lisboa"})
    last = {"id": f"{1:026d}-2", "account_id": f"{1:026d}", "version": 2, "at": "Lisboa"}
    with pytest.raises(AssertionError, match="scans shows"):
        projected(SCANS, SENDING, SCAN).shows({"at": "Porto"}, last)
    first = {**last, "id": f"{1:026d}-1", "version": 1, "at": "Porto"}
    projected(SCANS, SENDING, SCAN).shows(first, last)


def test_what_the_engine_adds_is_compared_where_it_is_named() -> None:
    sent = new_event("parcel", 1, SENT, SENDING.body)
    shown = {"to": "Ada", "at": "Lisboa", "scans": 1}
    projected(PLACES, sent, SCAN).shows({**shown, "id": "parcel", "version": 2})
    with pytest.raises(AssertionError, match="version"):
        projected(PLACES, sent, SCAN).shows({**shown, "version": 1})


def test_what_differs_is_shown_with_both_sides() -> None:
    with pytest.raises(AssertionError) as told:
        projected(PLACES, SENDING).shows({"to": "Ada", "at": "Lisboa", "scans": 0})
    assert "-[{'to': 'Ada', 'at': 'Lisboa', 'scans': 0}]" in str(told.value)
    assert "+[{'to': 'Ada', 'at': 'Porto', 'scans': 0}]" in str(told.value)
    with pytest.raises(AssertionError, match="places shows"):
        projected(PLACES, SENDING).shows(None)


def test_an_event_that_can_not_be_folded_is_told() -> None:
    with pytest.raises(Unfoldable, match="no parcel"):
        projected(PLACES, SCAN)


def test_a_document_that_does_not_fit_the_mapping_is_told() -> None:
    def text(_: Any, event: Any) -> dict[str, Any]:
        return {"scans": "none"}

    wrong = Projection("wrong", text, {"scans": {"type": "integer"}})
    with pytest.raises(AssertionError, match=r"wrong can't keep .*'none'"):
        projected(wrong, SENDING)


def test_a_document_that_depends_on_how_the_event_came_is_told() -> None:
    """From the stream its time is a text."""

    def when(_: Any, event: Any) -> dict[str, Any]:
        return {"when": str(event["created_at"])}

    wrong = Projection("wrong", when, {"when": {"type": "keyword"}})
    with pytest.raises(AssertionError, match="wrong makes another document") as told:
        projected(wrong, SENDING)
    assert "2025-01-01T00:00:01Z" in str(told.value)


def test_an_event_of_an_older_schema_is_read_by_the_applications_upcasters() -> None:
    post = Application(
        "post",
        projections=[PLACES],
        upcasters={(SENT, 1): lambda event: {**event["body"], "at": "Porto"}},
    )
    old = new_event("parcel", 1, SENT, {"to": "Ada"}, schema=1)
    for before in ([old], [SENDING]):
        shown = projected(PLACES, *before, application=post)
        shown.shows({"to": "Ada", "at": "Porto", "scans": 0})
    with pytest.raises(Unfoldable, match="'at'"):
        projected(PLACES, old)


def test_a_projection_that_changes_what_it_is_given_is_told() -> None:
    """After a failed write the engine folds an event into the same document again."""

    def counted(document: Any, event: Any) -> Any:
        if document is None:
            return {"scans": 0}
        document["scans"] += 1
        return document

    def emptied(_: Any, event: Any) -> dict[str, Any]:
        return {"scans": len(event["body"].pop("at"))}

    for after in (counted, emptied):
        wrong = Projection("wrong", after, {"scans": {"type": "integer"}})
        with pytest.raises(AssertionError, match="wrong changes what it is given"):
            projected(wrong, SENDING, SCAN)


def test_what_a_projection_is_not_about_makes_no_document() -> None:
    bought = Decision("CopyBought", {"title": "Ulysses", "level": 0})
    places = Projection("places", PLACES._after, {"to": {"type": "text"}}, without=BOOK.schemas)
    projected(places, bought).shows(None)


def test_the_banks_projections() -> None:
    before = [
        Decision(CREATED, {"owner": "Ada", "money": 10}),
        Decision(DEPOSITED, {"money": 5}),
        Decision(OWNER_UPDATED, {"owner": "Eve"}),
    ]
    at = "2025-01-01T00:00:03Z"
    projected(BALANCE, *before).shows(
        {"owner": "Eve", "balance": 15, "status": "open", "updated_at": at}
    )
    with pytest.raises(AssertionError, match="statement shows"):
        projected(STATEMENT, *before).shows({})
