"""What is decided and shown, without a server; and all of it on servers of its own."""

import pytest

from parcels import PARCELS
from parcels.parcel import PARCEL, Deliver, Scan, Search, Send, WrongStatus
from parcels.places import PLACES
from parcels.search import SEARCH
from pipeline.application import Application
from pipeline.commands import connect
from pipeline.model import process
from pipeline.model.aggregate import Decision
from pipeline.testing import InMemoryEventStore, given, projected, reacted
from pipeline.testing.plugin import Bank

SENT = Decision("ParcelSent", {"to": "Faro"})
SCANNED = Decision("ParcelScanned", {"place": "Porto"})
DELIVERED = Decision("ParcelDelivered", {})


def test_a_parcel_is_scanned_until_it_is_delivered() -> None:
    given(PARCEL, SENT).when(Scan("Porto")).then(SCANNED)
    given(PARCEL, SENT, SCANNED).when(Deliver()).then(DELIVERED)
    given(PARCEL, SENT, DELIVERED).when(Scan("Porto")).refused(WrongStatus)


def test_a_parcel_is_at_the_place_of_its_last_scan() -> None:
    projected(PLACES, SENT, SCANNED).shows({"to": "Faro", "at": "Porto", "scans": 1})


def test_a_parcel_that_nobody_scans_is_searched_for() -> None:
    waiting = reacted(SEARCH, SENT, SCANNED).sends()
    waiting.when_due().sends(process.Send("parcel", waiting.id, Search())).due(None)
    reacted(SEARCH, SENT, DELIVERED).due(None)


async def test_a_scan_is_executed_once_for_its_key() -> None:
    async with connect(PARCELS, store=InMemoryEventStore()) as post:
        sent = await post.create("parcel", Send("Faro"))
        for _ in range(2):
            done = await post.execute("parcel", sent.after.id, Scan("Porto"), key="scan-1")
        assert done.after.version == 2


@pytest.fixture
def application() -> Application:
    return PARCELS


async def test_a_scan_is_shown(bank: Bank) -> None:
    sent = await bank.create("parcel", Send("Faro"))
    done = await bank.execute("parcel", sent.after.id, Scan("Porto"))
    document = await bank.document("places", sent.after.id, done.after.version)
    assert document["at"] == "Porto"
