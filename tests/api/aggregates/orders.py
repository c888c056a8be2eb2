"""An application whose commands have a field of every type that HTTP takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

from pydantic import Field

from pipeline.application import Application
from pipeline.model.aggregate import Aggregate, Decision, Joint, Refused
from pipeline.model.claims import CLAIM, Claim, Take, claim_id
from pipeline.model.events import Event
from pipeline.model.projection import Projection


class SoldOut(Refused):
    """There is
    nothing left.

    This is for those who read the code.
    """


class NotReady(Refused):
    status = 422


@dataclass(frozen=True)
class Order:
    lines: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Order something."""

    item: str
    pieces: int = 1
    express: bool = False
    note: str | None = None
    tags: list[str] = field(default_factory=list)
    sizes: tuple[int, ...] = ()
    copy: Literal["yes", "no"] = "no"
    weight: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.express and not self.weight:
            raise ValueError("an express order needs a weight.")


@dataclass(frozen=True)
class Cancel:
    why: str = ""


@dataclass(frozen=True)
class Wait:
    pass


def decide(command: Place | Cancel | Wait, order: Order) -> Sequence[Decision]:
    match command:
        case Place(item, pieces) if item == "gold" or pieces > 5:
            raise SoldOut
        case Place(item=item, pieces=pieces):
            words = [item, *command.tags, *map(str, command.sizes)]
            return [Decision("LineAdded", {"words": words})] * pieces
        case Cancel(why):
            raise NotReady(why)
    return []


def evolve(order: Order, event: Event) -> Order:
    return replace(order, lines=order.lines + 1, words=(*order.words, *event["body"]["words"]))


ORDER: Final = Aggregate(
    "order",
    initial=Order,
    decide=decide,
    evolve=evolve,
    kinds=["LineAdded"],
    commands=[Place, Cancel, Wait],
)
SILENT: Final = Aggregate("silent", initial=Order, decide=decide, evolve=evolve, kinds=["Hushed"])
LINES: Final = Projection(
    "lines",
    lambda document, _: {"lines": document["lines"] + 1 if document else 1},
    {"lines": {"type": "integer"}},
)


@dataclass(frozen=True)
class Bell:
    rings: int = 0


@dataclass(frozen=True)
class Ring:
    pass


BELL: Final = Aggregate[Ring, Bell](
    "bell",
    initial=Bell,
    decide=lambda command, bell: [Decision("BellRung", {})],
    evolve=lambda bell, event: Bell(bell.rings + 1),
    kinds=["BellRung"],
    commands=[Ring],
)


class TooLoud(Refused):
    """The bell has rung enough."""


@dataclass(frozen=True)
class Announce:
    """Ring for an order, once for each slip."""

    order: str
    bell: str
    slip: str


def announce(command: Announce, order: Order, bell: Bell, slip: Claim) -> Iterator[list[Decision]]:
    yield [Decision("LineAdded", {"words": ["announced"]})]
    if bell.rings == 2:
        raise TooLoud
    yield [Decision("BellRung", {})]
    yield CLAIM.decide(Take(command.order), slip)


ANNOUNCING: Final = Joint[Announce](
    "announcing",
    [ORDER, BELL, CLAIM],
    announce,
    commands=[Announce],
    ids=lambda command: (command.order, command.bell, claim_id(f"slip/{command.slip}")),
)
SHOP: Final = Application(
    "shop", aggregates=[ORDER, SILENT, BELL], joints=[ANNOUNCING], projections=[LINES]
)
BELLS: Final = Application("bells", aggregates=[BELL])
ORDERS: Final = Application("orders", aggregates=[ORDER], projections=[LINES])
EMPTY: Final = Application("empty", projections=[LINES])
