"""The status of each partition: its owner, its position and its lag.

A reading probes all servers at the same time and ends in less than three seconds, whatever is down.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pipeline.coordination.partition_leases import View, name_of
from pipeline.coordination.partitioning import Partitioning
from pipeline.operations.status.effective_position import effective_position
from pipeline.operations.status.lag import Lag, WaitingEvents, lag, total_waiting
from pipeline.operations.status.probe import Unknown, failed, joined, probe, silent, why
from pipeline.operations.status.reader import Epoch, Log, LogEnd, Parked, StatusReader

# Seconds from the start of a reading until which the servers must have answered: about the end of
# the stream, about everything else, and about the events in the stream.
_END: Final = 1.0
_ALL: Final = 2.2
_EVENTS: Final = 2.7


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A field is None if there is nothing, or if it is not known: then `unknown` says why, for the
    owner `owner_unknown`.

    `position`: all up to this sequence of the stream is in the live index. `lag_seconds`: the age
    of the oldest event that is not. Events of the `parked` accounts are not in the lag.
    """

    partition: int
    owner: str | None
    epoch: int | None
    position: int | None
    lag_events: int | None
    lag_seconds: float | None
    unknown: str | None
    owner_unknown: str | None
    parked: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """All partitions, and the `silent` servers, each with what it did instead of answering.

    Of all partitions together: the events `unforwarded` to the stream and those `unapplied` to the
    index, the `log` as it was just before they were counted (None: not known), the number of
    accounts `parked`, and the ids of the newest of them.
    """

    partitions: list[PartitionStatus]
    silent: dict[str, Unknown]
    unforwarded: WaitingEvents | Unknown
    unapplied: WaitingEvents | Unknown
    parked: int | Unknown
    log: Log | None
    newest_parked: Sequence[str] = ()

    @property
    def failed(self) -> dict[str, str]:
        """See `probe.failed`."""
        return failed(self.silent.values())


@dataclass(frozen=True, slots=True)
class _Applied:
    """The effective position of a partition, and the events after it in the stream."""

    position: int | None
    waiting: WaitingEvents | Unknown


@dataclass(frozen=True, slots=True)
class _Index:
    """The partitions, and the log as it was just before the waiting events were counted."""

    partitions: Sequence[_Applied]
    log: Log | None = None


class Partitions:
    """Reads the status of all partitions. `expected`: their number while the stream does not
    say."""

    def __init__(self, reader: StatusReader, expected: int) -> None:
        self._reader, self._now = reader, Partitioning(expected)

    async def read(self) -> Reading:
        """The status at the time of the call, or up to three seconds later."""
        began = asyncio.get_running_loop().time()
        # With little time: if NATS is silent, the rest is still read within three seconds.
        end = await probe("NATS", self._reader.log_end, began + _END)
        if isinstance(end, LogEnd) and end.partitions is not None:
            self._now = end.partitions
        return await self._read(end, began)

    async def _read(self, end: LogEnd | Unknown, began: float) -> Reading:
        """Read all but the end of the log, which must have been read first: an event that is
        forwarded from then on is counted as unforwarded or unapplied, for one reading perhaps as
        both, but is never missed."""
        count, until = self._now.count, began + _ALL
        unforwarded, index, leases, epochs, parked = await asyncio.gather(
            self._unforwarded(end, until),
            self._index(began),
            probe("Redis", partial(self._reader.leases, count), until),
            probe("NATS", self._reader.epochs, until),
            probe("NATS", partial(self._reader.parked, count), until),
        )
        now, applied = datetime.now(UTC), index.partitions
        statuses = [
            _status(
                partition,
                applied[partition].position,
                lag(unforwarded[partition], applied[partition].waiting, now),
                leases,
                epochs,
                parked,
            )
            for partition in range(count)
        ]
        answers = [end, *unforwarded, *(each.waiting for each in applied), leases, epochs, parked]
        return Reading(
            statuses,
            silent(answers),
            total_waiting(unforwarded),
            total_waiting(each.waiting for each in applied),
            parked if isinstance(parked, Unknown) else parked.by_partition.total(),
            index.log,
            [] if isinstance(parked, Unknown) else parked.newest,
        )

    async def _unforwarded(
        self, end: LogEnd | Unknown, until: float
    ) -> Sequence[WaitingEvents | Unknown]:
        token = end if isinstance(end, Unknown) else end.token
        if isinstance(token, Unknown):
            return [token] * self._now.count
        question = partial(self._reader.unforwarded, token, self._now.count)
        found = await probe("MongoDB", question, until)
        return [found] * self._now.count if isinstance(found, Unknown) else found

    async def _index(self, began: float) -> _Index:
        question = partial(self._reader.checkpoints, self._now)
        found = await probe("Elasticsearch", question, began + _ALL)
        if isinstance(found, Unknown):
            return _Index([_Applied(None, found)] * self._now.count)
        log = await probe("NATS", self._reader.stream, began + _EVENTS)
        if isinstance(log, Unknown):
            return _Index([_Applied(None, log)] * self._now.count)
        generation, checkpoints = found
        positions = [
            effective_position(p, self._now, generation, log.state, checkpoints)
            for p in range(self._now.count)
        ]
        applied = await asyncio.gather(
            *(self._applied_to(p, at, log, began) for p, at in enumerate(positions))
        )
        return _Index(applied, log)

    async def _applied_to(
        self, partition: int, position: int | Unknown, log: Log, began: float
    ) -> _Applied:
        if isinstance(position, Unknown):
            return _Applied(None, position)
        if position == log.state.last:  # what is forwarded since is counted as unforwarded
            return _Applied(position, WaitingEvents())
        question = partial(self._reader.unapplied, partition, position)
        return _Applied(position, await probe("NATS", question, began + _EVENTS))


def _status(
    partition: int,
    position: int | None,
    behind: Lag,
    leases: View | Unknown,
    epochs: Mapping[int, Epoch] | Unknown,
    parked: Parked | Unknown,
) -> PartitionStatus:
    epoch = None if isinstance(epochs, Unknown) else epochs.get(partition)
    owner, nobody = None, None
    if isinstance(leases, Unknown):
        nobody = leases.why + (f"; {epoch.owner} had it last" if epoch else "")
    elif (has_it := leases.owners[partition]) is not None:
        owner = name_of(has_it)
    return PartitionStatus(
        partition,
        owner,
        epoch.number if epoch else None,
        position,
        behind.events,
        behind.seconds,
        joined(behind.unknown, why(epochs), why(parked)),
        nobody,
        None if isinstance(parked, Unknown) else parked.by_partition[partition],
    )
