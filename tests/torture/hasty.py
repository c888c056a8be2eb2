"""The example with little patience: a parcel that nobody scans is searched for within a run, once.

In the example itself that takes two days, and it is searched for again every two days.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import parcels
from parcels.parcel import PARCEL
from parcels.search import PATIENCE, SEARCH, Way
from pipeline.application import Application
from pipeline.model.events import Event
from pipeline.model.process import Process, Reaction

HASTE: Final = timedelta(seconds=3)


def _react(way: Way, event: Event) -> Reaction[Way]:
    if event["kind"] == "ParcelSearched":
        return Reaction(way)
    usual = SEARCH.react(way, event)
    return replace(usual, due=usual.due and usual.due - PATIENCE + HASTE)


_SEARCH: Final = Process(
    SEARCH.name, initial=Way, react=_react, on_due=SEARCH.on_due, kinds=PARCEL.schemas
)
PARCELS: Final[Application] = replace(parcels.PARCELS, processes=[_SEARCH])
