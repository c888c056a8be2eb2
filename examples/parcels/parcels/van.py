"""A van: it has room for some parcels, and none is loaded onto a full one."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.model.aggregate import Aggregate, Decision, Joint, Refused
from pipeline.model.events import Event

from .parcel import PARCEL, Parcel, WrongStatus


@dataclass(frozen=True)
class Van:
    room: int = 0


@dataclass(frozen=True)
class Register:
    room: int


class Full(Refused):
    """The van has no room left."""


def decide(command: Register, van: Van) -> list[Decision]:
    return [Decision("VanRegistered", {"room": command.room})]


def evolve(van: Van, event: Event) -> Van:
    if event["kind"] == "VanRegistered":
        return Van(event["body"]["room"])
    return Van(van.room - 1)


VAN = Aggregate(
    "van",
    initial=Van,
    decide=decide,
    evolve=evolve,
    kinds=["VanRegistered", "VanLoaded"],
    commands=[Register],
)


@dataclass(frozen=True)
class Load:
    parcel: str
    van: str


def load(command: Load, parcel: Parcel, van: Van) -> Iterator[list[Decision]]:
    if parcel.status != "sent":
        raise WrongStatus
    yield [Decision("ParcelLoaded", {"van": command.van})]
    if not van.room:
        raise Full
    yield [Decision("VanLoaded", {"parcel": command.parcel})]


LOAD = Joint[Load]("load", [PARCEL, VAN], load)
