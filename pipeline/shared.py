"""What a worker's appliers share, and a partition as one of them has taken it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, Protocol

from pipeline.index import Elastic, Generation, Generations
from pipeline.jetstream import JetStream
from pipeline.source import Source
from pipeline.synchronise import Replayed
from pipeline.tables.balances import CAPACITY, Balances, Histories
from pipeline.tables.checkpoints import Checkpoints
from pipeline.tables.counters import Counters

SYNCHRONISING: Final = 2
"""Partitions of one worker that synchronise at the same time; the others wait."""


class Store(Histories, Replayed, Protocol):
    """What the projection needs of the event store."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all appliers of a worker share."""

    elastic: Elastic
    generations: Generations
    checkpoints: Checkpoints
    store: Store
    js: JetStream
    source: Source
    partitions: int
    owner: str
    counters: Counters = field(default_factory=Counters)
    capacity: int = CAPACITY
    synchronising: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(SYNCHRONISING)
    )


@dataclass(slots=True)
class Taken:
    """A partition as it was taken.

    `position` is the stream sequence up to which all is written, `applied` the last message of the
    partition itself; `reached` is where reading has come, with documents yet to be written.
    """

    generation: Generation
    stream: str
    epoch: int
    balances: Balances
    position: int
    applied: int
    reached: int
