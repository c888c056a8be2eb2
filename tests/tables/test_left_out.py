"""A projection that is about one of an application's aggregates, and not about claims."""

import pytest

from pipeline.model.claims import GIVEN_BACK, TAKEN
from pipeline.model.events import SLOTS, Event, new_event
from pipeline.model.names import names_of
from pipeline.model.projection import NOTHING
from pipeline.operations.repair.compare import Comparison
from pipeline.support.settings import Settings
from tests.apps.post import PLACES, SCANNED, SENT, WITHOUT_CLAIMS
from tests.stores import stores

PLACED = WITHOUT_CLAIMS.within(names_of("post"))


def parcel() -> list[Event]:
    sent = new_event("parcel-1", 1, SENT, {"at": "Porto", "to": "Rua das Flores 3"})
    return [sent, new_event("parcel-1", 2, SCANNED, {"at": "Faro"})]


def claim() -> list[Event]:
    taken = new_event("claim-1", 1, TAKEN, {"by": "parcel-1"})
    return [taken, new_event("claim-1", 2, GIVEN_BACK, {"by": "parcel-1"})]


def test_what_it_is_not_about_makes_no_document_and_is_no_fault() -> None:
    assert PLACED.replay(claim()) == NOTHING
    assert PLACED.fold_all(claim()) is None
    assert PLACES.replay(claim()).poison is not None
    events = parcel()
    assert PLACED.fold_all(events) == PLACES.fold_all(events)


@pytest.mark.parametrize("kind", ["ParcelLost", ["ClaimTaken"], None])
def test_a_kind_that_nobody_knows_is_not_passed_over(kind: str) -> None:
    event = new_event("parcel-1", 1, SENT, {})
    event["kind"] = kind
    assert PLACED.replay([event]).poison is not None


@pytest.mark.elasticsearch
async def test_workers_repairs_and_comparisons_pass_over_it(settings: Settings) -> None:
    ours, other = parcel(), claim()
    async with stores(settings, PLACED) as world:
        table = await world.live(ours[:1], other[:1])
        await world.arrives(table, ours[1], other[1])
        assert not world.lot
        assert await world.exact()
        repaired = await world.mend_partition()
        assert (repaired.written, repaired.removed) == (0, 0)
        compared = Comparison(world.store, world.survey, None, PLACED, patience=0.3)
        assert [each async for each in compared.slots(range(SLOTS))] == []
        assert [each async for each in compared.these(["claim-1", "parcel-1"])] == []
        world.lot["claim-1"] = {}
        await world.documents().replay("claim-1")
        assert not world.lot, "parked by a version that did not leave it out"
