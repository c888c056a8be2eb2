"""The rule of shares, in a fleet that joins, leaves, dies and sees late: it settles, fairly."""

import random
from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.coordination.fair_share import ShareChange, fair_change

EXPIRY = 4
"""Rounds after which the lease and the membership of a dead worker run out."""


class Fleet:
    """Workers that act in rounds, each on a view up to `lateness` rounds old, and their leases."""

    def __init__(self, partitions: int, seed: int = 0, lateness: int = 0) -> None:
        self.owners: list[str | None] = [None] * partitions
        self.alive: set[str] = set()
        self.given = 0
        self._chance, self._lateness = random.Random(seed), lateness
        self._dying: dict[str, int] = {}
        self._history: list[tuple[list[str | None], set[str]]] = []
        self._draining: dict[str, tuple[int, ...]] = {}
        self._names = iter(range(10**9))

    def join(self) -> None:
        self.alive.add(f"w{next(self._names)}")

    def leave(self, *, dead: bool) -> None:
        if self.alive:
            worker = self._chance.choice(sorted(self.alive))
            self.alive.discard(worker)
            self._draining.pop(worker, None)
            self._dying[worker] = EXPIRY if dead else 0

    def round(self) -> bool:
        """Every worker acts once, in any order; True when nobody did anything."""
        self._expire()
        self._history = [*self._history, self._view()][-self._lateness - 1 :]
        quiet = not self._dying
        for worker in self._chance.sample(sorted(self.alive), len(self.alive)):
            owners, members = self._chance.choice(self._history) if self._lateness else self._view()
            # A worker always knows which leases are its own: it holds them.
            owners = [
                worker if now == worker else None if seen == worker else seen
                for seen, now in zip(owners, self.owners, strict=True)
            ]
            quiet &= not self._act(worker, fair_change(owners, members, worker))
        return quiet

    def _act(self, worker: str, change: ShareChange) -> bool:
        """Release what has been drained since the last round, drain what is surplus now."""
        drained = self._draining.pop(worker, ())
        for partition in drained:
            assert self.owners[partition] == worker
            self.owners[partition] = None
            self.given += 1
        self._draining[worker] = tuple(p for p in change.release if p not in drained)
        for partition in change.acquire:
            if self.owners[partition] is None:  # SET NX
                self.owners[partition] = worker
        return bool(drained or change.acquire or change.release)

    def _expire(self) -> None:
        for worker in [worker for worker, rounds in self._dying.items() if rounds == 0]:
            self.owners = [None if owner == worker else owner for owner in self.owners]
            del self._dying[worker]
        self._dying = {worker: rounds - 1 for worker, rounds in self._dying.items()}

    def _view(self) -> tuple[list[str | None], set[str]]:
        return list(self.owners), self.alive | set(self._dying)

    def settle(self) -> None:
        """Act on fresh views until nobody wants anything."""
        self._lateness, self._history = 0, []
        limit = EXPIRY + 3 * len(self.owners) + 10
        assert any(self.round() for _ in range(limit)), f"not settled: {self.owners}"

    def fair(self) -> bool:
        """One owner each, alive, and nobody over the ceiling or under the floor."""
        counts = Counter(self.owners)
        floor, rest = divmod(len(self.owners), len(self.alive))
        shares = sorted(counts[worker] for worker in self.alive)
        assert sum(shares) == len(self.owners)
        return shares == [floor] * (len(self.alive) - rest) + [floor + 1] * rest


partitions = st.integers(1, 40)
steps = st.lists(st.sampled_from(["join", "join", "leave", "die", "round"]), max_size=40)


@given(partitions, steps, st.integers(0, 2**32), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_any_fleet_settles_and_is_fair(
    count: int, events: Iterable[str], seed: int, lateness: int
) -> None:
    fleet = Fleet(count, seed, lateness)
    changes = 0
    for event in events:
        play(fleet, event)
        changes += event != "round"
        fleet.round()
    fleet.join()
    fleet.settle()
    assert fleet.fair()
    assert fleet.given <= (changes + 1 + lateness) * count


@given(partitions, steps, st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_no_more_moves_than_needed(count: int, events: Iterable[str], seed: int) -> None:
    """From rest to rest on fresh views, only what is above the new shares is given up."""
    fleet = Fleet(count, seed)
    fleet.join()
    fleet.settle()
    for event in events:
        play(fleet, event)
        if not fleet.alive:
            fleet.join()
        floor, rest = divmod(count, len(fleet.alive))
        held = sorted((Counter(fleet.owners)[worker] for worker in fleet.alive), reverse=True)
        shares = [floor + 1] * rest + [floor] * (len(fleet.alive) - rest)
        needed = sum(max(0, have - share) for have, share in zip(held, shares, strict=True))
        before = fleet.given
        fleet.settle()
        assert fleet.fair()
        assert fleet.given - before <= needed


def play(fleet: Fleet, event: str) -> None:
    if event == "join":
        fleet.join()
    elif event in ("leave", "die"):
        fleet.leave(dead=event == "die")


def test_the_shares_of_eight() -> None:
    fleet = Fleet(8)
    seen = []
    for joining, leaving in ((1, 0), (2, 0), (0, 1), (2, 0)):
        for _ in range(joining):
            fleet.join()
        for _ in range(leaving):
            fleet.leave(dead=False)
        fleet.settle()
        counts = Counter(fleet.owners)
        seen.append(sorted((counts[worker] for worker in fleet.alive), reverse=True))
    assert seen == [[8], [3, 3, 2], [4, 4], [2, 2, 2, 2]]


def test_the_floor_goes_before_the_remainder() -> None:
    owners = ["a", "a", "b", None, None]
    assert fair_change(owners, ["a", "b"], "a") == ShareChange(), "b has less than the floor"
    assert fair_change(owners, ["a", "b"], "b").acquire == (4,)
    assert fair_change(["a", "a", "b", "b", None], ["a", "b"], "a").acquire == (4,)
    assert fair_change(["a", "a", "b", "b", None], ["a", "b"], "b") == ShareChange()


def test_what_a_dead_worker_had_is_not_free() -> None:
    assert fair_change(["dead", "dead", "a", None], ["a"], "a") == ShareChange(acquire=(3,))


def test_the_first_look_at_an_empty_fleet() -> None:
    assert fair_change([None] * 3, [], "a") == ShareChange(acquire=(0, 1, 2))
