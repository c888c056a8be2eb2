"""What readers hold against what they see, where copies of a shard may come and go, and the balance
service may be started anew."""

from pathlib import Path
from typing import Any

from pipeline.embedded.servers import Server
from pipeline.support.settings import Settings
from tests.torture.breaches import Breaches
from tests.torture.history import History
from tests.torture.readers import Readers
from tests.torture.servers import Copies, placed
from tests.torture.world import World


class Shards:
    """Servers of which nothing is asked but where the copies are."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = placed(folder)
        self.single: dict[str, Server] = {}
        self.now: Copies = {"balance-1 0": frozenset({"a", "b"})}

    async def restore(self) -> None:
        raise NotImplementedError

    async def copies(self) -> Copies:
        return self.now

    async def keep_logs(self, folder: Path) -> None:
        raise NotImplementedError


class Reading:
    """One reader's route; each document is of the same account."""

    def __init__(self, folder: Path) -> None:
        self.servers, self.breaches = Shards(folder), Breaches()
        self.world = World(self.servers)
        self._readers = Readers(self.world, 1, History(), self.breaches)

    async def see(self, *versions: int) -> int:
        """Reads that are answered with these; returns how many breaches were found so far."""
        for version in versions:
            document: dict[str, Any] = {"id": "A", "version": version, "balance": 1}
            await self._readers.saw("list", self._readers.floor("list"), document)
        return len(self.breaches.of(6))


async def test_a_version_that_goes_back_is_a_breach(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    assert await reading.see(1, 3, 3) == 0
    assert await reading.see(2) == 1


async def test_another_index_is_no_excuse(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    await reading.world.look_at_copies()
    assert await reading.see(3) == 0
    reading.servers.now = {**reading.servers.now, "balance-2 0": frozenset({"c"})}
    assert await reading.see(2) == 1


async def test_a_copy_that_came_is_one_once(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    await reading.world.look_at_copies()
    assert await reading.see(3) == 0
    reading.world.served += 1
    reading.servers.now = {"balance-1 0": frozenset({"b", "c"})}
    assert await reading.see(2) == 0
    assert await reading.see(2) == 0
    assert await reading.see(1) == 1


async def test_while_a_fault_moves_copies_what_the_same_process_has_shown_counts(
    tmp_path: Path,
) -> None:
    reading = Reading(tmp_path)
    assert await reading.see(3) == 0
    reading.world.move()
    assert await reading.see(3) == 0
    assert await reading.see(2) == 1
    await reading.world.rest()
    assert await reading.see(2) == 2


async def test_what_another_process_has_shown_counts_while_no_copy_moves(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    assert await reading.see(3) == 0
    reading.world.served += 1
    assert await reading.see(2) == 1


async def test_and_not_when_one_has_moved(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    assert await reading.see(3) == 0
    reading.world.served += 1
    reading.world.move()
    assert await reading.see(2) == 0
    assert await reading.see(1) == 1
    reading.world.served += 1
    assert await reading.see(0) == 1
    await reading.world.rest()
    assert await reading.see(0) == 1
