"""What is decided and shown, without a server; and all of it on servers of its own."""

import pytest

from parcels import PARCELS
from parcels.parcel import PARCEL, Deliver, Scan, Send, WrongStatus
from parcels.places import PLACES
from parcels.van import LOAD, Full, Load, Register
from pipeline.application import Application
from pipeline.model.aggregate import Decision
from pipeline.testing import given, projected
from pipeline.testing.plugin import Bank

SENT = Decision("ParcelSent", {"to": "Faro"})
SCANNED = Decision("ParcelScanned", {"place": "Porto"})
DELIVERED = Decision("ParcelDelivered", {})


def test_a_parcel_is_scanned_until_it_is_delivered() -> None:
    given(PARCEL, SENT).when(Scan("Porto")).then(SCANNED)
    given(PARCEL, SENT, SCANNED).when(Deliver()).then(DELIVERED)
    given(PARCEL, SENT, DELIVERED).when(Scan("Porto")).refused(WrongStatus)


def test_a_full_van_takes_no_parcel() -> None:
    loaded, taken = Decision("ParcelLoaded", {"van": "v"}), Decision("VanLoaded", {"parcel": "p"})
    van = [Decision("VanRegistered", {"room": 1})]
    given(LOAD, [SENT], van).when(Load("p", "v")).then([loaded], [taken])
    given(LOAD, [SENT], [*van, taken]).when(Load("p", "v")).refused(Full)


def test_a_parcel_is_at_the_place_of_its_last_scan() -> None:
    projected(PLACES, SENT, SCANNED).shows({"to": "Faro", "at": "Porto", "scans": 1})


@pytest.fixture
def application() -> Application:
    return PARCELS


async def test_a_loaded_parcel_is_on_its_van(bank: Bank) -> None:
    parcel = (await bank.create("parcel", Send("Faro"))).after.id
    van = (await bank.create("van", Register(room=1))).after.id
    await bank.together("load", [parcel, van], Load(parcel, van))
    assert (await bank.document("places", parcel, 2))["at"] == f"van {van}"
