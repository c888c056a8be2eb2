"""What happened: the differences between one reading of the pipeline and the next, in sentences.

Figures that are not known are no difference: what was known before stands until something else is.
What is wrong when it is looked at for the first time is told as such.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

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
_ENDED: Final = "ended: "
_READY: Final = "ready: "
_STARTING_SECONDS: Final = 30.0
"""A process that has just started may wait for so long before that is a warning."""
_SETTLING_SECONDS: Final = 15.0
"""A bank that is just starting may be without leader and owners for so long."""
ALREADY: Final = "It was so already when it was first looked at."
_COMING: Final = ("worker", "rebuild", "role")
"""One of these that is not known has come since the last reading."""
_WORST_LAST: Final = ("ended", "ready", "unknown", "waiting", "silent")


@dataclass(frozen=True, slots=True)
class Happening:
    """`at`: when the first reading was made that shows it, RFC 3339. `about`: the name of the
    server, the worker, the projection or the like. `detail`: what else is known, or empty.
    `seconds`: how long it had been otherwise, as far as was seen. `accounts`: ids of those that it
    is about."""

    at: str
    kind: Kind
    tone: Tone
    about: str
    what: str
    detail: str = ""
    seconds: float | None = None
    accounts: list[str] = field(default_factory=list)


Value = str | bool | int | None
Fact = tuple[Kind, str, Value]
"""What is known of a thing: its kind, which one it is, and how it is."""


@dataclass(frozen=True, slots=True)
class Change:
    """A happening, and the facts of which it tells. `first`: it was so when it was first looked
    at."""

    happening: Happening
    facts: list[Fact]
    first: bool = False


class _Turn(NamedTuple):
    """What was known of a thing that is otherwise now; `first`: nothing was."""

    before: Any
    first: bool


class Changes:
    """Compares each reading with what is known of those before it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Kind, str], Value] = {}
        self._since: dict[tuple[Kind, str], str] = {}
        self._starting: dict[str, str] = {}
        self._seen: set[tuple[Kind, str]] = set()
        self._looks_since = ""
        self._facts: list[Fact] = []
        self._at = ""
        self._begun = self._all_known = False

    def remember(self, change: Change) -> None:
        """Know what was told before, by this process or another one; in the order of times."""
        told = change.happening
        self._known |= {(kind, name): value for kind, name, value in change.facts}
        self._at = told.at
        if not change.first:
            self._lasted(told.kind, told.about, told.tone)

    def after(self, reading: Reading) -> list[Change]:
        """What has happened since the reading before. At the first one: what is otherwise than was
        remembered, and what is wrong."""
        self._at = reading["at"]
        self._looks_since = self._looks_since or self._at
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
        self._begun = True
        _bound(self._known)
        _bound(self._since)
        return found

    def _servers(self, reading: Reading) -> Iterator[Change]:
        for each in reading["servers"]:
            name = _SERVERS.get(each["name"], each["name"])
            if (turn := self._turned("server", each["name"], each["up"], before=True)) is None:
                continue
            if each["up"]:
                yield self._now(turn, "server", "good", each["name"], f"{name} answers again.")
            else:
                detail = each["detail"] or ""
                what = "does not answer" if each.get("state") == "silent" else "is down"
                yield self._now(turn, "server", "bad", each["name"], f"{name} {what}.", detail)

    def _forwarder(self, reading: Reading) -> Iterator[Change]:
        leader, unknown = reading["forwarder"]["leader"], reading["forwarder"]["unknown"]
        if unknown is not None or self._settling("forwarder", "", leader):
            return
        if (turn := self._turned("forwarder", "", leader, before=leader or "")) is None:
            return
        if leader is None:
            yield self._now(turn, "forwarder", "bad", "", "No forwarder leads.")
        else:
            yield self._now(turn, "forwarder", "good", leader, f"The forwarder {leader} leads.")

    def _workers(self, reading: Reading) -> Iterator[Change]:
        for each in reading["workers"]:
            name, state = each["name"], each["state"]
            before = self._first_time(state, wrong=state == "lost")
            if (turn := self._turned("worker", name, state, before)) is None:
                continue
            match state:
                case "here":
                    what = "is back" if turn.before == "lost" else "has come"
                    yield self._now(turn, "worker", "good", name, f"Worker {name} {what}.")
                case "lost":
                    what = f"Worker {name} does not answer."
                    yield self._now(turn, "worker", "bad", name, what)
                case "left":
                    yield self._now(turn, "worker", "plain", name, f"Worker {name} has ended.")

    def _partitions(self, reading: Reading) -> Iterator[Change]:
        partitions, count = reading["partitions"], len(reading["partitions"])
        if (turn := self._turned("partitions", "", count, before=count)) is not None:
            what = f"The bank has {count} partitions; it had {turn.before}."
            yield self._now(turn, "partitions", "plain", "", what)
        moved: defaultdict[tuple[str | None, _Turn], list[int]] = defaultdict(list)
        for each in partitions:
            number, owner = each["partition"], each["owner"]
            if owner is None and each["owner_unknown"] is not None:
                continue
            if self._settling("partitions", str(number), owner):
                continue
            turn = self._turned("partitions", str(number), owner, before=owner or "")
            if turn is not None:
                moved[owner, turn].append(number)
        for (new, turn), numbers in moved.items():
            which = f"partition{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"
            old, more = turn.before, "" if turn.first else " any more"
            what = f"{new} owns {which} now." if new else f"No worker owns {which}{more}."
            detail = f"Before: {old}." if old else ""
            tone: Tone = "plain" if new else "bad"
            yield self._now(turn, "partitions", tone, new or "", what, detail)

    def _lag(self, reading: Reading) -> Iterator[Change]:
        for each in reading["projected"]:
            name, late = each["projection"], each["alarm"]
            if each["lag_seconds"] is None:
                continue
            if (turn := self._turned("lag", name, late, before=None)) is None:
                continue
            if late is None:
                yield self._now(turn, "lag", "good", name, f"{name} follows again.")
            else:
                tone: Tone = "bad" if late == "red" else "warn"
                seconds = RED if late == "red" else AMBER
                what = f"{name} is more than {seconds:.0f} s behind."
                yield self._now(turn, "lag", tone, name, what)

    def _rebuild(self, reading: Reading) -> Iterator[Change]:
        if (rebuild := reading["rebuild"]) is None:
            return
        projection, state = rebuild["projection"], rebuild["state"]
        tone, words = _REBUILDS.get(state, ("plain", state))
        before = self._first_time(state, wrong=tone in ("warn", "bad"))
        if (turn := self._turned("rebuild", rebuild["id"], state, before)) is None:
            return
        what, detail = f"A rebuild of {projection} {words}.", rebuild["reason"] or ""
        yield self._now(turn, "rebuild", tone, projection, what, detail)

    def _parked(self, reading: Reading) -> Iterator[Change]:
        for each in reading["projected"]:
            name, parked = each["projection"], each["parked"]
            if parked is None:
                continue
            if (turn := self._turned("parked", name, parked, before=0)) is None:
                continue
            accounts = "account is" if parked == 1 else "accounts are"
            more = parked - turn.before
            tone: Tone = "warn" if more > 0 else "plain" if parked else "good"
            then = "" if turn.first else f"; {turn.before} before"
            what, newest = f"{parked} {accounts} parked in {name}{then}.", each["newest_parked"]
            named = newest[:more] if more > 0 else []
            yield self._now(turn, "parked", tone, name, what, accounts=named)

    def _roles(self, reading: Reading) -> Iterator[Change]:
        """The processes of all roles. Of workers, their ends are told by their registration."""
        starting, self._starting = self._starting, {}
        # Until all were asked once, one that is seen for the first time may have run all the time.
        before = _ENDED if self._all_known else _READY
        self._all_known = self._all_known or reading["instances_unknown"] is None
        # Of several of one name, what is told is what the worst one does.
        ordered = sorted(reading["instances"], key=lambda each: _WORST_LAST.index(each["state"]))
        for each in {(each["role"], each["name"]): each for each in ordered}.values():
            name, state = f"{each['role']} {each['name']}", each["state"]
            if state in ("silent", "ended") and each["role"] == "worker":
                continue
            known = self._known.get(("role", name), _ENDED)
            if state == "waiting" and known == _ENDED:
                since = self._starting[name] = starting.get(name, self._at)
                if _between(since, self._at) < _STARTING_SECONDS:
                    continue
            told: Value = f"{state}: {each['detail'] or ''}"
            if state == "unknown":
                told = self._known.get(("role", name), before)
            if (turn := self._turned("role", name, told, before)) is not None:
                yield self._role(turn, name, *str(told).split(": ", 1))

    def _role(self, turn: _Turn, name: str, state: str, detail: str) -> Change:
        match state:
            case "silent":
                return self._now(turn, "role", "bad", name, f"{name} does not answer.", detail)
            case "ended":
                return self._now(turn, "role", "plain", name, f"{name} has ended.")
            case "waiting":
                return self._now(turn, "role", "warn", name, f"{name} can't work.", detail)
            case _ if detail:
                return self._now(turn, "role", "warn", name, f"{name} warns.", detail)
            case _:
                what = "has started" if turn.before == _ENDED else "works again"
                return self._now(turn, "role", "good", name, f"{name} {what}.")

    def _settling(self, kind: Kind, which: str, who: str | None) -> bool:
        """Whether nobody is there, and it is too early to say that of what may be starting."""
        if who is not None:
            self._seen.add((kind, which))
        early = _between(self._looks_since, self._at) < _SETTLING_SECONDS
        return early and (kind, which) not in self._seen

    def _first_time(self, now: str, *, wrong: bool) -> str:
        """What is taken for the state before of what was not known. At the first reading all that
        is there is new to us, and only what is wrong is told."""
        return "" if self._begun or wrong else now

    def _turned(self, kind: Kind, about: str, now: Value, before: Value) -> _Turn | None:
        """What it was before, if it is something else now; None if it is the same. `before`: what
        is taken for that where nothing is known."""
        key = (kind, about)
        first = key not in self._known and not (self._begun and kind in _COMING)
        known = self._known.pop(key, before)
        self._known[key] = now  # at the end: `_bound` forgets what was seen longest ago
        if known == now:
            return None
        self._facts.append((kind, about, now))
        return _Turn(known, first)

    def _now(
        self,
        turn: _Turn,
        kind: Kind,
        tone: Tone,
        about: str,
        what: str,
        detail: str = "",
        accounts: list[str] | None = None,
    ) -> Change:
        facts, self._facts = self._facts, []
        if turn.first and tone in ("warn", "bad"):
            detail = f"{detail.rstrip('.')}. {ALREADY}" if detail else ALREADY
            told = Happening(self._at, kind, tone, about, what, detail, None, accounts or [])
            return Change(told, facts, first=True)
        lasted = self._lasted(kind, about, tone)
        return Change(
            Happening(self._at, kind, tone, about, what, detail, lasted, accounts or []), facts
        )

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
