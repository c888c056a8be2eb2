"""What happened: the differences between a reading of the pipeline and what is known, in sentences.

What is known is the fold of all that was told (`Known`), by this process or another one. Figures
that are not known are no difference: what was known before stands until something else is. What is
wrong when it is looked at for the first time is told as such.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType
from typing import Any, Final, Literal, NamedTuple

from pipeline.operations.status.lateness import AMBER, RED
from pipeline.support.auth_errors import NAMES

Kind = Literal["server", "forwarder", "worker", "partitions", "lag", "rebuild", "parked", "role"]
Tone = Literal["good", "plain", "warn", "bad"]
Reading = Mapping[str, Any]
"""An `Overview` as JSON."""

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
_BEHIND_SECONDS: Final = 60.0
"""Who sees no change may merely be late with it: only after so long does it contradict a line."""
ALREADY: Final = "It was so already when it was first looked at."
_APPEARING: Final = ("worker", "rebuild", "role")
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


_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {
    "server": (bool,),
    "forwarder": (str, NoneType),
    "worker": (str,),
    "partitions": (str, int, NoneType),
    "lag": (str, NoneType),
    "rebuild": (str,),
    "parked": (int,),
    "role": (str,),
}


def valid(change: Change) -> bool:
    """Whether it tells of facts, each with a value of its kind."""
    return bool(change.facts) and all(type(value) in _TYPES[of] for of, _, value in change.facts)


_Key = tuple[Kind, str]


class Known:
    """What is known of each thing: the fold of what was told, in the order in which it was."""

    def __init__(self) -> None:
        self._facts: dict[_Key, tuple[Value, str]] = {}
        self._since: dict[_Key, str] = {}

    def copy(self) -> "Known":
        copied = Known()
        copied._facts, copied._since = self._facts.copy(), self._since.copy()
        return copied

    def fact(self, key: _Key) -> tuple[Value, str] | None:
        """How the thing is, and when it was seen to be so; None if nothing was told of it."""
        return self._facts.get(key)

    def since(self, kind: Kind, about: str) -> str | None:
        """When that went wrong."""
        return self._since.get(_trouble(kind, about))

    def lacks(self, change: Change) -> bool:
        """Whether the change is news: something that it tells is known to be otherwise, and
        nothing is known that is newer."""
        facts = [(self.fact((kind, name)), value) for kind, name, value in change.facts]
        late = any(known and known[1] > change.happening.at for known, _ in facts)
        return not late and any(known is None or known[0] != value for known, value in facts)

    def remember(self, change: Change, until: str | None = None) -> None:
        """Know what was told. `until`: the latest time at which that may have been seen."""
        now = change.happening
        at = min(now.at, until or now.at)
        for kind, name, value in change.facts:
            self._facts.pop((kind, name), None)  # at the end: `_bound` forgets the oldest
            self._facts[kind, name] = value, at
        if now.tone == "good":
            self._since.pop(_trouble(now.kind, now.about), None)
        elif not change.first:
            self._since.setdefault(_trouble(now.kind, now.about), at)
        _bound(self._facts)
        _bound(self._since)


class _Turn(NamedTuple):
    """What is otherwise now, and what was known of it; `first`: nothing was."""

    fact: Fact
    before: Any
    first: bool


class Changes:
    """Compares readings with what is known."""

    def __init__(self) -> None:
        self.known = Known()
        self._untold: dict[_Key, Value] = {}  # seen as it was known or taken to be
        self._views: dict[_Key, tuple[Value, str]] = {}  # seen last, and since when
        self._starting: dict[str, str] = {}
        self._seen: set[_Key] = set()
        self._first_look = self._at = ""
        self._all_known = False

    @property
    def _begun(self) -> bool:
        return self._at != self._first_look

    def after(self, reading: Reading) -> list[Change]:
        """What is otherwise than was known; from now on it is. At the first reading: what is
        otherwise than was told, and what is wrong."""
        self._at = reading["at"]
        self._first_look = self._first_look or self._at
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
        for change in found:
            self.known.remember(change)
        _bound(self._untold)
        _bound(self._views)
        return found

    def _servers(self, reading: Reading) -> Iterator[Change]:
        for each in reading["servers"]:
            name = NAMES.get(each["name"], each["name"])
            if each.get("state") == "slow":  # the last look got no answer
                continue
            if (turn := self._turned("server", each["name"], each["up"], before=True)) is None:
                continue
            if each["up"]:
                yield self._now(turn, "good", each["name"], f"{name} answers again.")
            else:
                detail = each["detail"] or ""
                what = "does not answer" if each.get("state") == "silent" else "is down"
                yield self._now(turn, "bad", each["name"], f"{name} {what}.", detail)

    def _forwarder(self, reading: Reading) -> Iterator[Change]:
        leader, unknown = reading["forwarder"]["leader"], reading["forwarder"]["unknown"]
        if unknown is not None or self._settling("forwarder", "", leader):
            return
        if (turn := self._turned("forwarder", "", leader, before=leader or "")) is None:
            return
        if leader is None:
            yield self._now(turn, "bad", "", "No forwarder leads.")
        else:
            yield self._now(turn, "good", leader, f"The forwarder {leader} leads.")

    def _workers(self, reading: Reading) -> Iterator[Change]:
        for each in reading["workers"]:
            name, state = each["name"], each["state"]
            before = self._first_time(state, wrong=state == "lost")
            if (turn := self._turned("worker", name, state, before)) is None:
                continue
            match state:
                case "here":
                    what = "is back" if turn.before == "lost" else "has come"
                    yield self._now(turn, "good", name, f"Worker {name} {what}.")
                case "lost":
                    what = f"Worker {name} does not answer."
                    yield self._now(turn, "bad", name, what)
                case "left":
                    yield self._now(turn, "plain", name, f"Worker {name} has ended.")

    def _partitions(self, reading: Reading) -> Iterator[Change]:
        partitions, count = reading["partitions"], len(reading["partitions"])
        if (turn := self._turned("partitions", "", count, before=count)) is not None:
            what = f"The bank has {count} partitions; it had {turn.before}."
            yield self._now(turn, "plain", "", what)
        moved: defaultdict[tuple[Any, ...], list[_Turn]] = defaultdict(list)
        for each in partitions:
            number, owner = each["partition"], each["owner"]
            if owner is None and each["owner_unknown"] is not None:
                continue
            if self._settling("partitions", str(number), owner):
                continue
            turn = self._turned("partitions", str(number), owner, before=owner or "")
            if turn is not None:
                moved[owner, turn.before, turn.first].append(turn)
        for (new, old, first), turns in moved.items():
            numbers = [int(each.fact[1]) for each in turns]
            which = f"partition{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"
            more = "" if first else " any more"
            what = f"{new} owns {which} now." if new else f"No worker owns {which}{more}."
            detail = f"Before: {old}." if old else ""
            tone: Tone = "plain" if new else "bad"
            yield self._now(turns[0], tone, new or "", what, detail, also=turns[1:])

    def _lag(self, reading: Reading) -> Iterator[Change]:
        for each in reading["projected"]:
            name, late = each["projection"], each["alarm"]
            if each["lag_seconds"] is None:
                continue
            if (turn := self._turned("lag", name, late, before=None)) is None:
                continue
            if late is None:
                yield self._now(turn, "good", name, f"{name} follows again.")
            else:
                tone: Tone = "bad" if late == "red" else "warn"
                seconds = RED if late == "red" else AMBER
                what = f"{name} is more than {seconds:.0f} s behind."
                yield self._now(turn, tone, name, what)

    def _rebuild(self, reading: Reading) -> Iterator[Change]:
        if (rebuild := reading["rebuild"]) is None:
            return
        projection, state = rebuild["projection"], rebuild["state"]
        tone, words = _REBUILDS.get(state, ("plain", state))
        before = self._first_time(state, wrong=tone in ("warn", "bad"))
        if (turn := self._turned("rebuild", rebuild["id"], state, before)) is None:
            return
        what, detail = f"A rebuild of {projection} {words}.", rebuild["reason"] or ""
        yield self._now(turn, tone, projection, what, detail)

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
            yield self._now(turn, tone, name, what, accounts=named)

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
            known = self._before(("role", name), _ENDED)
            if state == "waiting" and known == _ENDED:
                since = self._starting[name] = starting.get(name, self._at)
                if _between(since, self._at) < _STARTING_SECONDS:
                    continue
            now: Value = f"{state}: {each['detail'] or ''}"
            if state == "unknown":
                now = self._before(("role", name), before)
            if (turn := self._turned("role", name, now, before)) is not None:
                yield self._role(turn, name, *str(now).split(": ", 1))

    def _role(self, turn: _Turn, name: str, state: str, detail: str) -> Change:
        match state:
            case "silent":
                return self._now(turn, "bad", name, f"{name} does not answer.", detail)
            case "ended":
                return self._now(turn, "plain", name, f"{name} has ended.")
            case "waiting":
                return self._now(turn, "warn", name, f"{name} can't work.", detail)
            case _ if detail:
                return self._now(turn, "warn", name, f"{name} warns.", detail)
            case _:
                what = "has started" if turn.before == _ENDED else "works again"
                return self._now(turn, "good", name, f"{name} {what}.")

    def _settling(self, kind: Kind, which: str, who: str | None) -> bool:
        """Whether nobody is there, and it is too early to say that of what may be starting."""
        if who is not None:
            self._seen.add((kind, which))
        early = _between(self._first_look, self._at) < _SETTLING_SECONDS
        return early and (kind, which) not in self._seen

    def _first_time(self, now: str, *, wrong: bool) -> str:
        """What is taken for the state before of what was not known. At the first reading all that
        is there is new to us, and only what is wrong is told."""
        return "" if self._begun or wrong else now

    def _before(self, key: _Key, otherwise: Value) -> Value:
        told = self.known.fact(key)
        return self._untold.get(key, otherwise) if told is None else told[0]

    def _turned(self, kind: Kind, about: str, now: Value, before: Value) -> _Turn | None:
        """What it was before, if it is something else now; None if it is the same, or others know
        better. `before`: what is taken for that where nothing is known."""
        key = (kind, about)
        told, known = self.known.fact(key), self._before(key, before)
        value, since = self._views.pop(key, (None, ""))
        since = since if since and value == now else self._at
        self._views[key] = now, since  # at the end: `_bound` forgets what was seen longest ago
        if known == now:
            self._untold.pop(key, None)
            self._untold[key] = now
            return None
        if told is not None and not self._knows_better(since, told[1]):
            return None
        first = told is None and key not in self._untold
        return _Turn((kind, about, now), known, first and not (self._begun and kind in _APPEARING))

    def _knows_better(self, since: str, told: str) -> bool:
        """Than a line of that time: it has been seen otherwise `since` a later one, or the line is
        so old that this is not for being late."""
        return since > told or _between(told, self._at) >= _BEHIND_SECONDS

    def _now(
        self,
        turn: _Turn,
        tone: Tone,
        about: str,
        what: str,
        detail: str = "",
        *,
        accounts: list[str] | None = None,
        also: Iterable[_Turn] = (),
    ) -> Change:
        """A line about the thing, and those that turned the same way."""
        kind, facts = turn.fact[0], [turn.fact, *(each.fact for each in also)]
        lasted, first = None, turn.first and tone in ("warn", "bad")
        if first:
            detail = f"{detail.rstrip('.')}. {ALREADY}" if detail else ALREADY
        elif tone == "good" and (since := self.known.since(kind, about)):
            lasted = _between(since, self._at)
        line = Happening(self._at, kind, tone, about, what, detail, lasted, accounts or [])
        return Change(line, facts, first)


def _trouble(kind: Kind, about: str) -> _Key:
    """What goes wrong and gets well again: a new leader ends the time without the one before."""
    return kind, "" if kind == "forwarder" else about


def _bound(known: dict[_Key, Any]) -> None:
    while len(known) > _MOST:
        del known[next(iter(known))]


def _between(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
