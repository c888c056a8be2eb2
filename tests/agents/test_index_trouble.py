"""What is wrong with an index, an alias or a server is no account's fault: the worker waits, says
why, puts right what is its own, and parks nobody."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.agents.worker_metrics import require_elasticsearch
from pipeline.model.events import Event
from pipeline.support.readiness import NotReady
from pipeline.support.settings import Settings
from tests.agents.world import World, in_order, more, world_on
from tests.bank import accounts, append, publish
from tests.harness import eventually

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    world = await world_on(settings)
    await world.start()
    yield world
    await world.stop()
    await world.js.close()
    await world.store.close()


async def happen_more(world: World, histories: list[list[Event]]) -> None:
    added = more(histories)
    await append(world.store, added)
    await publish(world.js, in_order(added))


async def is_told(world: World, words: str) -> None:
    """Wait until the worker is not ready for that reason."""

    async def told() -> bool:
        try:
            await require_elasticsearch(world.runner.context)
        except NotReady as error:
            return words in str(error)
        return False

    await eventually(told, message=words)


async def becomes_ready(world: World) -> None:
    async def ready() -> bool:
        await require_elasticsearch(world.runner.context)
        return True

    await eventually(ready, message="ready")


def parked(world: World) -> list[Any]:
    return world.runner.context.parked.all()


def setting(name: str, value: Any) -> tuple[str, str, Any]:
    return "PUT", "/balance-1/_settings", {f"index.{name}": value}


def alias(index: str, name: str, **options: Any) -> tuple[str, str, Any]:
    action = {"add": {"index": index, "alias": name, **options}}
    return "POST", "/_aliases", {"actions": [action]}


LASTING = {
    "closed": (("POST", "/balance-1/_close", None), ("POST", "/balance-1/_open", None), "closed"),
    "write block": (setting("blocks.write", True), setting("blocks.write", None), "blocked: write"),
    "read only": (
        setting("blocks.read_only", True),
        setting("blocks.read_only", None),
        "blocked: read_only",
    ),
    "flood stage": (
        setting("blocks.read_only_allow_delete", True),
        setting("blocks.read_only_allow_delete", None),
        "read_only_allow_delete",
    ),
    "pipeline": (
        setting("default_pipeline", "nobody"),
        setting("default_pipeline", "_none"),
        "pipeline with id [nobody] does not exist",
    ),
}


@pytest.mark.parametrize("what", LASTING)
async def test_an_index_that_can_not_be_written_is_waited_for(world: World, what: str) -> None:
    trouble, cure, words = LASTING[what]
    histories = accounts(20, 3)
    await world.happen(histories)
    await world.settled()
    await world.curl(*trouble)
    newcomers = accounts(5, 2)
    await world.happen(newcomers)
    await happen_more(world, histories)
    await is_told(world, words)
    assert parked(world) == []
    await world.curl(*cure)
    await world.settled()
    assert parked(world) == []
    await becomes_ready(world)


OTHER: Any = {"aliases": {"balance-g1": {}}}
BOTH: Any = {"aliases": {"balance": {}, "balance-g1": {}}}
MOVED: dict[str, tuple[tuple[str, str, Any], ...]] = {
    "a lower index": (("PUT", "/balance-0", {"aliases": {"balance": {}}}),),
    "a higher index": (("PUT", "/balance-9", {"aliases": {"balance": {}}}),),
    "a restored index": (("PUT", "/bank-restored", BOTH),),
    "a renamed restored index": (("PUT", "/balance-7", BOTH),),
    "the writers' alias": (("PUT", "/bank-restored", OTHER),),
    "another index is written": (
        ("PUT", "/bank-restored", {"aliases": {"balance-g1": {"is_write_index": True}}}),
    ),
    "no index is written": (alias("balance-1", "balance-g1", is_write_index=False),),
    "the index being built is live": (
        ("PUT", "/balance-2", {"aliases": {"balance-building": {}, "balance": {}}}),
        ("DELETE", "/balance-2/_alias/balance-building", None),
    ),
    "options of every kind": (
        alias("balance-1", "balance", is_write_index=True, search_routing="1,2", is_hidden=True),
        alias("balance-1", "balance-g1", is_write_index=True, search_routing="1"),
    ),
    "a filter": (
        alias("balance-1", "balance", filter={"term": {"owner.keyword": "Nobody"}}),
        alias("balance-1", "balance-g1", filter={"term": {"owner.keyword": "Nobody"}}),
    ),
    "a routing": (
        alias("balance-1", "balance", routing="7"),
        alias("balance-1", "balance-g1", index_routing="7"),
    ),
    "the readers' alias is gone": (("DELETE", "/balance-1/_alias/balance", None),),
    "the writers' alias is gone": (("DELETE", "/balance-1/_alias/balance-g1", None),),
    "an index in the place of the alias": (
        ("DELETE", "/balance-1/_alias/balance", None),
        ("PUT", "/balance", {}),  # not a document: it would go into balance-1 if we come late
    ),
    "the checkpoints' second index": (
        ("PUT", "/bank-restored", {"aliases": {"bank-checkpoints-live": {}}}),
    ),
    "the checkpoints' alias is gone": (
        ("DELETE", "/bank-checkpoints/_alias/bank-checkpoints-live", None),
    ),
    "the checkpoints' alias has a filter": (
        alias("bank-checkpoints", "bank-checkpoints-live", filter={"term": {"owner": "-"}}),
    ),
}


async def aliases(world: World) -> dict[str, Any]:
    """Each index that has aliases, with their options."""
    answer = await world.runner.context.elastic.client.indices.get_alias()
    found = {name: about["aliases"] for name, about in answer.body.items()}
    return {name: each for name, each in found.items() if each}


@pytest.mark.parametrize("what", MOVED)
async def test_aliases_are_put_back_while_the_worker_runs(world: World, what: str) -> None:
    histories = accounts(20, 3)
    await world.happen(histories)
    await world.settled()
    for step in MOVED[what]:
        try:
            await world.curl(*step)
        except AssertionError:
            assert what == "an index in the place of the alias", "the worker was faster"
    added = more(histories)
    await append(world.store, added)
    await publish(world.js, in_order(added))

    async def put_back() -> bool:
        return await aliases(world) == {
            "balance-1": {"balance": {}, "balance-g1": {}},
            "bank-checkpoints": {"bank-checkpoints-live": {}},
        }

    await eventually(put_back, seconds=10, message="aliases as they were")
    await world.settled()
    assert parked(world) == []
    await becomes_ready(world)
    await happen_more(world, histories)
    await world.settled()


@pytest.mark.parametrize("what", ["closed", "write block"])
async def test_checkpoints_that_can_not_be_written_are_waited_for(world: World, what: str) -> None:
    histories = accounts(20, 3)
    await world.happen(histories)
    await world.settled()
    trouble, cure, _ = LASTING[what]
    await world.curl(trouble[0], trouble[1].replace("balance-1", "bank-checkpoints"), trouble[2])
    await happen_more(world, histories)
    await eventually(world.exact)
    await is_told(world, "closed" if what == "closed" else "FORBIDDEN/8")
    await world.curl(cure[0], cure[1].replace("balance-1", "bank-checkpoints"), cure[2])
    await world.settled()
    assert parked(world) == []
    await becomes_ready(world)
