"""What happened: the differences between one reading of the pipeline and the next, in sentences.

Figures that are not known are no difference: what was known before stands until something else is.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pipeline.operations.status.lateness import AMBER, RED

Kind = Literal["server", "forwarder", "worker", "partitions", "lag", "rebuild", "parked", "role"]
Tone = Literal["good", "plain", "warn", "bad"]
Reading = Mapping[str, Any]
"""An `Overview` as JSON."""

_SERVERS: Final = {
    "mongodb": "MongoDB",
    "nats": "NATS",
    "redis": "Redis",
    "elasticsearch": "Elasticsearch",
}


_REBUILDS: Final[Mapping[str, tuple[Tone, str]]] = {
    "running": ("plain", "has begun"),
    "done": ("good", "is done"),
    "cancelled": ("warn", "was cancelled"),
    "failed": ("bad", "has failed"),
}
_MOST: Final = 5000
"""Things whose last state is known; names of processes are new with each of them."""
_ENDED: Final = ("ended", "")
_READY: Final = ("ready", "")
_WORST_LAST: Final = ("ended", "ready", "unknown", "waiting", "silent")


@dataclass(frozen=True, slots=True)
class Happening:
    """`at`: when the first reading was made that shows it, RFC 3339. `about`: the name of the
    server, the worker, the projection or the like. `detail`: what else is known, or empty.
    `seconds`: how long it had been otherwise, as far as was seen."""

    at: str
    kind: Kind
    tone: Tone
    about: str
    what: str
    detail: str = ""
    seconds: float | None = None


class Changes:
    """Compares each reading with what is known of those before it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Kind, str], Any] = {}
        self._since: dict[tuple[Kind, str], str] = {}
        self._at = ""
        self._all_known = False

    def after(self, reading: Reading) -> list[Happening]:
        """What has happened since the reading before; nothing at the first one."""
        first, self._at = not self._at, reading["at"]
        found = [
            *self._servers(reading),
            *self._forwarder(reading),
            *self._workers(reading),
            *self._partitions(reading),
            *self._lag(reading),
            *self._rebuild(reading),
            *self._parked(reading),
            *self._roles(reading),
        ]
        _bound(self._known)
        _bound(self._since)
        return [] if first else found

    def _servers(self, reading: Reading) -> Iterator[Happening]:
        for each in reading["servers"]:
            name = _SERVERS.get(each["name"], each["name"])
            if self._turned("server", each["name"], each["up"], before=True) is None:
                continue
            if each["up"]:
                yield self._now("server", "good", each["name"], f"{name} answers again.")
            else:
                detail = each["detail"] or ""
                what = "does not answer" if each.get("state") == "silent" else "is down"
                yield self._now("server", "bad", each["name"], f"{name} {what}.", detail)

    def _forwarder(self, reading: Reading) -> Iterator[Happening]:
        leader, unknown = reading["forwarder"]["leader"], reading["forwarder"]["unknown"]
        if unknown is not None or self._turned("forwarder", "", leader) is None:
            return
        if leader is None:
            yield self._now("forwarder", "bad", "", "No forwarder leads.")
        else:
            yield self._now("forwarder", "good", leader, f"The forwarder {leader} leads.")

    def _workers(self, reading: Reading) -> Iterator[Happening]:
        for each in reading["workers"]:
            name, state = each["name"], each["state"]
            if (turned := self._turned("worker", name, state, before="")) is None:
                continue
            match state:
                case "here":
                    what = "is back" if turned == "lost" else "has come"
                    yield self._now("worker", "good", name, f"Worker {name} {what}.")
                case "lost":
                    what = f"Worker {name} does not answer."
                    yield self._now("worker", "bad", name, what)
                case "left":
                    yield self._now("worker", "plain", name, f"Worker {name} has ended.")

    def _partitions(self, reading: Reading) -> Iterator[Happening]:
        partitions = reading["partitions"]
        before = self._turned("partitions", "", len(partitions))
        if before is not None:
            what = f"The bank has {len(partitions)} partitions; it had {before}."
            yield self._now("partitions", "plain", "", what)
        moved: defaultdict[tuple[str | None, str | None], list[int]] = defaultdict(list)
        for each in partitions:
            number, owner = each["partition"], each["owner"]
            if owner is None and each["owner_unknown"] is not None:
                continue
            known = self._known.get(("partitions", str(number)))
            if self._turned("partitions", str(number), owner) is not None:
                moved[known, owner].append(number)
        for (old, new), numbers in moved.items():
            which = f"partition{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"
            what = f"{new} owns {which} now." if new else f"No worker owns {which} any more."
            detail = f"Before: {old}." if old else ""
            yield self._now("partitions", "plain" if new else "bad", new or "", what, detail)

    def _lag(self, reading: Reading) -> Iterator[Happening]:
        for each in reading["projected"]:
            name, late = each["projection"], each["alarm"]
            unknown = each["lag_seconds"] is None
            if unknown or self._turned("lag", name, late, before=None) is None:
                continue
            if late is None:
                yield self._now("lag", "good", name, f"{name} follows again.")
            else:
                tone: Tone = "bad" if late == "red" else "warn"
                seconds = RED if late == "red" else AMBER
                what = f"{name} is more than {seconds:.0f} s behind."
                yield self._now("lag", tone, name, what)

    def _rebuild(self, reading: Reading) -> Iterator[Happening]:
        if (rebuild := reading["rebuild"]) is None:
            return
        projection, state = rebuild["projection"], rebuild["state"]
        if self._turned("rebuild", rebuild["id"], state, before="") is None:
            return
        tone, what = _REBUILDS.get(state, ("plain", state))
        detail = rebuild["reason"] or ""
        yield self._now("rebuild", tone, projection, f"A rebuild of {projection} {what}.", detail)

    def _parked(self, reading: Reading) -> Iterator[Happening]:
        for each in reading["projected"]:
            name, parked = each["projection"], each["parked"]
            if parked is None or (before := self._turned("parked", name, parked)) is None:
                continue
            accounts = "account is" if parked == 1 else "accounts are"
            tone: Tone = "warn" if parked > before else "plain" if parked else "good"
            what = f"{parked} {accounts} parked in {name}; {before} before."
            yield self._now("parked", tone, name, what)

    def _roles(self, reading: Reading) -> Iterator[Happening]:
        """The processes of all roles. Of workers, their ends are told by their registration."""
        # Until all were asked once, one that is seen for the first time may have run all the time.
        before = _ENDED if self._all_known else _READY
        self._all_known = self._all_known or reading["instances_unknown"] is None
        # Of several of one name, what is told is what the worst one does.
        ordered = sorted(reading["instances"], key=lambda each: _WORST_LAST.index(each["state"]))
        for each in {(each["role"], each["name"]): each for each in ordered}.values():
            name, state = f"{each['role']} {each['name']}", each["state"]
            if state in ("silent", "ended") and each["role"] == "worker":
                continue
            told = (state, each["detail"] or "")
            if state == "unknown":
                told = self._known.get(("role", name), before)
            if (turned := self._turned("role", name, told, before)) is None:
                continue
            yield from self._role(name, *told, new=turned == _ENDED)

    def _role(self, name: str, state: str, detail: str, *, new: bool) -> Iterator[Happening]:
        match state:
            case "silent":
                yield self._now("role", "bad", name, f"{name} does not answer.", detail)
            case "ended":
                yield self._now("role", "plain", name, f"{name} has ended.")
            case "waiting":
                yield self._now("role", "warn", name, f"{name} can't work.", detail)
            case _ if detail:
                yield self._now("role", "warn", name, f"{name} warns.", detail)
            case _:
                what = "has started" if new else "works again"
                yield self._now("role", "good", name, f"{name} {what}.")

    def _turned(self, kind: Kind, about: str, now: Any, before: Any = ...) -> Any:
        """What it was before, if it is something else now; None if it is the same. `before`: what
        is taken for the one before where nothing is known; else that is no change."""
        key = (kind, about)
        known = self._known.pop(key, before)
        self._known[key] = now  # at the end: `_bound` forgets what was seen longest ago
        if known == now or known is ...:
            return None
        return "" if known is None else known

    def _now(self, kind: Kind, tone: Tone, about: str, what: str, detail: str = "") -> Happening:
        return Happening(self._at, kind, tone, about, what, detail, self._lasted(kind, about, tone))

    def _lasted(self, kind: Kind, about: str, tone: Tone) -> float | None:
        """Seconds since what is over now went wrong."""
        key = (kind, "" if kind == "forwarder" else about)
        if tone == "good":
            since = self._since.pop(key, None)
            return _between(since, self._at) if since else None
        self._since.setdefault(key, self._at)
        return None


def _bound(known: dict[tuple[Kind, str], Any]) -> None:
    while len(known) > _MOST:
        del known[next(iter(known))]


def _between(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
