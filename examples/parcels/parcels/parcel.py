"""A parcel: it is sent, scanned at places on its way, and delivered."""

from dataclasses import dataclass

from pipeline.model.aggregate import Aggregate, Decision, Refused
from pipeline.model.events import Event


@dataclass(frozen=True)
class Parcel:
    status: str = "new"


@dataclass(frozen=True)
class Send:
    to: str


@dataclass(frozen=True)
class Scan:
    place: str


@dataclass(frozen=True)
class Deliver:
    pass


@dataclass(frozen=True)
class Search:
    pass


class WrongStatus(Refused):
    """A parcel is sent once, and on its way until it is delivered."""


def decide(command: Send | Scan | Deliver | Search, parcel: Parcel) -> list[Decision]:
    match command, parcel.status:
        case Send(to), "new":
            return [Decision("ParcelSent", {"to": to})]
        case Scan(place), "sent":
            return [Decision("ParcelScanned", {"place": place})]
        case Deliver(), "sent":
            return [Decision("ParcelDelivered", {})]
        case Search(), "sent":
            return [Decision("ParcelSearched", {})]
    raise WrongStatus


def evolve(parcel: Parcel, event: Event) -> Parcel:
    match event["kind"]:
        case "ParcelSent":
            return Parcel("sent")
        case "ParcelDelivered":
            return Parcel("delivered")
    return parcel


PARCEL = Aggregate(
    "parcel",
    initial=Parcel,
    decide=decide,
    evolve=evolve,
    kinds=["ParcelSent", "ParcelScanned", "ParcelDelivered", "ParcelSearched"],
    commands=[Send, Scan, Deliver],
)
