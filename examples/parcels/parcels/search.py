"""A parcel that nobody scans for two days is searched for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.model.events import Event, time_of
from pipeline.model.process import Process, Reaction, Send

from .parcel import PARCEL, Search

PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Way:
    parcel: str = ""


def react(way: Way, event: Event) -> Reaction[Way]:
    if event["kind"] == "ParcelDelivered":
        return Reaction(way)
    return Reaction(Way(event["account_id"]), due=time_of(event) + PATIENCE)


def on_due(way: Way, due: datetime) -> Reaction[Way]:
    return Reaction(way, [Send("parcel", way.parcel, Search())])


SEARCH = Process("search", initial=Way, react=react, on_due=on_due, kinds=PARCEL.schemas)
