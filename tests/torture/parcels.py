"""The example under torture: random commands to parcels, and what must come of them.

What an event does to a parcel is written here a second time, from the tutorial alone. A parcel
takes any number of searches: nothing but the process keeps it from being searched for twice.
"""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from tests.torture.breaches import Breaches
from tests.torture.checker.end import Histories, Judge
from tests.torture.checker.fold import Event, Fields, slot
from tests.torture.checker.truth import Told, check_history, check_versions
from tests.torture.history import Command, History

_MOST_PARCELS: Final = 300
_FEW: Final = 10
_TOWNS: Final = ("Faro", "Lisboa", "Porto", "Braga", "Évora")
_SEARCHED: Final = "ParcelSearched"
_PATIENCE: Final = timedelta(seconds=5)
"""That of the process (`hasty.py`), and two seconds for a worker to see that the time has come."""


class ParcelCommands:
    """Draws a client's next command; a few of the parcels are busy, most are quiet."""

    def __init__(self, chance: random.Random, history: History) -> None:
        self._chance, self._history = chance, history
        self._kinds: dict[Callable[[], Command], int] = {
            self._send: 10,
            self._scan: 85,
            self._deliver: 5,
        }

    def next(self) -> Command:
        if len(self._history.versions) < _FEW:
            return self._send()
        make = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        return make()

    def other(self, command: Command) -> Command | None:
        """A scan at another place."""
        if command.kind != "Scan":
            return None
        return command._replace(body={**command.body, "place": "Coimbra"})

    def _send(self) -> Command:
        if len(self._history.versions) >= _MOST_PARCELS:
            return self._scan()
        body = {"command": "Send", "to": self._chance.choice(_TOWNS)}
        return Command("Send", "POST", "/aggregates/parcel", body)

    def _scan(self) -> Command:
        return self._to(self._parcel(), "Scan", place=self._chance.choice(_TOWNS))

    def _deliver(self) -> Command:
        """Of the quietest: a delivered parcel refuses all that comes."""
        return self._to(list(self._history.versions)[-1], "Deliver")

    def _parcel(self) -> str:
        parcels = list(self._history.versions)
        return parcels[int(len(parcels) * self._chance.random() ** 3)]

    def _to(self, parcel: str, command: str, **body: str) -> Command:
        path = f"/aggregates/parcel/{parcel}"
        return Command(command, "POST", path, {"command": command, **body}, parcel)


def _states(events: list[Event]) -> list[dict[str, Any]]:
    status, found = "new", []
    for event in events:
        status = {"ParcelSent": "sent", "ParcelDelivered": "delivered"}.get(event["kind"], status)
        found.append({"state": {"status": status}})
    return found


def _places(histories: Histories) -> dict[str, Fields]:
    """What the projection `places` has to hold, by id of the document."""
    found = {}
    for parcel, events in histories.items():
        places = [each["body"]["place"] for each in events if each["kind"] == "ParcelScanned"]
        sent, last = events[0], events[-1]
        to = sent["body"]["to"]
        ends = {"ParcelDelivered": to, "ParcelSearched": "unknown"}
        found[parcel] = {
            "id": parcel,
            "version": last["version"],
            "slot": slot(parcel),
            "event_id": last["_id"],
            "to": to,
            "at": ends.get(last["kind"], ["sender", *places][-1]),
            "scans": len(places),
        }
    return found


_TOLD: Final = Told(
    kinds={"Send": "ParcelSent", "Scan": "ParcelScanned", "Deliver": "ParcelDelivered"},
    shown=_states,
    shared=("to", "place"),
    second=lambda event: event["kind"] == _SEARCHED,
)


def check_searches(histories: Histories, breaches: Breaches, read: datetime) -> None:
    """A parcel that nobody scans is searched for, once: invariant 17. `read`: when the events were
    read."""
    for parcel, events in histories.items():
        twice = any(one["kind"] == _SEARCHED == other["kind"] for one, other in pairwise(events))
        breaches.judge(17, not twice, f"{parcel} was searched for twice, and not scanned meanwhile")
    late = sorted(unsearched(histories, read))
    breaches.judge(17, not late, f"nobody searched for {late[:3]}")


def unsearched(histories: Histories, now: datetime) -> Iterator[str]:
    """The parcels that should have been searched for by then."""
    for parcel, events in histories.items():
        last = events[-1]
        waits = last["kind"] not in (_SEARCHED, "ParcelDelivered")
        if waits and now - last["created_at"].replace(tzinfo=UTC) > _PATIENCE:
            yield parcel


class ParcelJudge(Judge):
    """Judges the example that is at rest."""

    log, prefix, checkpoints = "parcels-log", "parcels-", "parcels-checkpoints"
    projections = {"places": _places}  # noqa: RUF012
    groups = {}  # noqa: RUF012

    def judge_events(self, histories: Histories) -> None:
        check_versions(histories, self.breaches)
        check_searches(histories, self.breaches, self.read)
        check_history(self.history, histories, self.breaches, _TOLD)

    def waiting(self, histories: Histories, now: datetime) -> Iterator[str]:
        return unsearched(histories, now)
