"""Several projections at once: each with its own agent, consumers, checkpoints and rebuild."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.banking.statement import STATEMENT
from pipeline.eventstore import EventStore
from pipeline.messaging import JetStream
from pipeline.model.events import partition_of, slot_of
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import UnknownProjection, projections
from pipeline.search import Elastic
from pipeline.support.settings import Settings, SettingsError, load
from tests.bank import append, exact, history
from tests.harness import LONG_LANE, Role, eventually, rounds
from tests.load import Load
from tests.names import STREAM

Start = Callable[..., Awaitable[Role]]
elasticsearch = pytest.mark.elasticsearch
P = 4
DOCUMENT = Path(__file__).parents[2] / "docs" / "projections.md"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": P, "projections": "balance statement"})


async def become_exact(settings: Settings, store: EventStore, *those: Projection) -> None:
    for each in those or (BALANCE, STATEMENT):
        await eventually(
            lambda each=each: exact(settings.elasticsearch_url, store, each),  # type: ignore[misc]
            seconds=120,
            message=f"{each.name} is exact",
            every=0.3,
        )


async def bank(role: Start, *words: str) -> tuple[int, str]:
    """A command's exit code, and all that it printed."""
    command = await role("bank", *words)
    return await command.wait(120), command.log()


# ---------------------------------------------------------------- side by side


@LONG_LANE
@pytest.mark.drill
@elasticsearch
async def test_each_has_consumers_and_checkpoints_of_its_own(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    await role("bank", "forwarder")
    await role("bank", "worker", "--id", "w1")
    load = Load(store)
    async with load.steady(100):
        await load.more(300)
    await become_exact(settings, store)
    names = (await js.api(f"CONSUMER.NAMES.{STREAM}"))["consumers"]
    assert set(names) == {f"{name}-{p}" for name in ("balance", "statement") for p in range(P)}
    for projection in ("balance", "statement"):

        async def no_lag(projection: str = projection) -> bool:
            code, told = await bank(role, "partitions", "--projection", projection, "--json")
            assert code == 0, told
            found = json.loads(told)
            assert len(found) == P
            return all(each["lag_events"] == 0 and each["owner"] == "w1" for each in found)

        await eventually(no_lag, seconds=60, message=f"no lag of {projection}")
    elastic = Elastic(settings.elasticsearch_url)
    await elastic.client.indices.refresh(index="bank-checkpoints")
    found = await elastic.client.search(index="bank-checkpoints", size=100)
    await elastic.close()
    ids = {hit["_id"] for hit in found["hits"]["hits"]}
    assert ids == {f"{name}-1-{p}-of-{P}" for name in ("balance", "statement") for p in range(P)}


@LONG_LANE
@pytest.mark.drill
@elasticsearch
async def test_workers_come_and_die_and_both_end_exact(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    workers = [await role("bank", "worker", "--id", "w0")]
    seed = random.randrange(2**32)
    print("seed", seed)
    chance, load = random.Random(seed), Load(store)
    async with load.steady(150):
        for number in range(1, rounds(3, 12)):
            await load.more(chance.randint(50, 200))
            workers.append(await role("bank", "worker", "--id", f"w{number}"))
            await eventually(lambda: "goes on after" in workers[-1].log(), seconds=60)
            await load.more(chance.randint(1, 100))
            await workers.pop(chance.randrange(len(workers))).kill()
    await become_exact(settings, store)


@pytest.mark.drill
@elasticsearch
async def test_one_that_stands_still_holds_up_no_other(
    settings: Settings, store: EventStore, js: JetStream, role: Start
) -> None:
    """Its index refuses writes; the other's lag stays none, and it goes on when it may."""
    await role("bank", "forwarder")
    await role("bank", "worker")
    load, elastic = Load(store), Elastic(settings.elasticsearch_url)
    await load.write(40)
    await become_exact(settings, store)
    await block(elastic, True)
    async with load.steady(100):
        await load.more(400)
    await become_exact(settings, store, BALANCE)
    assert not await exact(settings.elasticsearch_url, store, STATEMENT)
    await block(elastic, False)
    await become_exact(settings, store)
    await elastic.close()


async def block(elastic: Elastic, blocked: bool) -> None:
    await elastic.client.indices.put_settings(
        index=STATEMENT.name, settings={"index.blocks.write": blocked}
    )


@pytest.mark.drill
@elasticsearch
async def test_a_projection_that_comes_later_catches_up(
    settings: Settings, store: EventStore, role: Start
) -> None:
    alone = {"BANK_PROJECTIONS": "balance"}
    await role("bank", "forwarder")
    worker = await role("bank", "worker", **alone)
    load = Load(store)
    async with load.steady(200):
        await load.more(300)
    await become_exact(settings, store, BALANCE)
    await worker.stop()
    await role("bank", "worker")
    async with load.steady(100):
        await load.more(100)
    await become_exact(settings, store)


# ---------------------------------------------------------------- rebuilt, parked, repartitioned


@LONG_LANE
@elasticsearch
async def test_one_is_compared_mended_and_rebuilt_while_the_other_is_left_alone(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    for number in range(2):
        await role("bank", "worker", "--id", f"w{number}", BANK_REBUILD_GRACE_SECONDS="0.5")
    histories = [history(f"01J{number:023}", 6) for number in range(40)]
    await append(store, histories)
    await become_exact(settings, store)
    elastic = Elastic(settings.elasticsearch_url)
    ada, bob = (events[0]["account_id"] for events in histories[:2])
    for each in (ada, bob):
        await elastic.client.index(
            index="statement", id=f"{each}-3", document={"balance": 10**9}, refresh=True
        )
    ghost = f"{ada}-7"
    await elastic.client.index(index="statement", id=ghost, document={"id": ghost}, refresh=True)

    code, told = await bank(role, "rebuild", "--projection", "statement", "--dry-run", "--json")
    assert code == 1, told
    found = {each["document_id"]: each["what"] for each in json.loads(told)["differences"]}
    assert found == {f"{ada}-3": "differs", f"{bob}-3": "differs", ghost: "extra"}
    code, told = await bank(role, "rebuild", "--projection", "statement", "--account", bob)
    assert (code, f"{bob}-3" in told) == (0, True), told
    assert (await bank(role, "rebuild", "--dry-run"))[0] == 0, "the other one is right"

    load = Load(store, seed=2)
    async with load.steady(60):
        code, told = await bank(role, "rebuild", "--projection", "statement", "--wait", "--json")
    assert code == 0, told
    ended = json.loads(told[told.index("{") :])
    assert (ended["state"], ended["projection"]) == ("done", "statement")
    await become_exact(settings, store)

    async def aliases() -> dict[str, set[str]]:
        found = await elastic.client.indices.get_alias(index="balance-*,statement-*")
        return {name: set(about["aliases"]) for name, about in found.body.items()}

    async def replaced() -> bool:
        return await aliases() == {
            "balance-1": {"balance", "balance-g1"},
            "statement-2": {"statement", "statement-g2"},
        }

    await eventually(replaced, seconds=60, message="the old generation is dropped")
    await elastic.close()


@LONG_LANE
@pytest.mark.drill
@elasticsearch
async def test_a_rebuild_of_both_at_once_survives_a_kill(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    worker = await role("bank", "worker", "--id", "w0", BANK_REBUILD_RATE=str(rounds(240, 600)))
    await append(store, [history(f"01J{number:023}", 6) for number in range(rounds(120, 300))])
    await become_exact(settings, store)
    load = Load(store)
    async with load.steady(60):
        for projection in ("balance", "statement"):
            code, told = await bank(role, "rebuild", "--projection", projection, "--no-wait")
            assert code == 0, told
        await asyncio.sleep(0.5)
        await worker.kill()
        await role("bank", "worker", "--id", "w1")
        for projection in ("balance", "statement"):
            words = ("rebuild", "--projection", projection, "status", "--wait", "--json")
            code, told = await bank(role, *words)
            assert code == 0, told
    await become_exact(settings, store)


@pytest.mark.drill
@elasticsearch
async def test_what_one_can_t_fold_is_parked_there_alone(
    settings: Settings, store: EventStore, role: Start
) -> None:
    """The counterparty of a transfer is of no matter to a balance."""
    await role("bank", "forwarder")
    await role("bank", "worker")
    sick: list[Any] = history("01J00000000000000000000000", 4)
    transfer = {"money": 5, "transfer": {"id": "t", "counterparty": 7}}
    sick[2] = {**sick[2], "kind": "MoneyDeposited", "body": transfer}
    account_id = sick[0]["account_id"]
    await append(store, [sick, history("01J00000000000000000000001", 4)])
    await become_exact(settings, store)

    async def parked() -> bool:
        code, told = await bank(role, "parked", "--projection", "statement", "--json")
        assert code == 0, told
        return [each["account_id"] for each in json.loads(told)] == [account_id]

    await eventually(parked, seconds=60, message="parked in the statement")
    assert json.loads((await bank(role, "parked", "--json"))[1]) == []
    partition = partition_of(slot_of(account_id), P)
    _, told = await bank(role, "partitions", "--projection", "statement", "--json")
    assert [each["parked"] for each in json.loads(told)] == [int(p == partition) for p in range(P)]


@LONG_LANE
@pytest.mark.drill
@elasticsearch
async def test_both_follow_a_repartition(
    settings: Settings, store: EventStore, role: Start
) -> None:
    await role("bank", "forwarder")
    await role("bank", "worker")
    load = Load(store)
    async with load.steady(100):
        await load.more(200)
        code, told = await bank(role, "repartition", "6")
        assert code == 0, told
        await load.more(200)
    await become_exact(settings, store)


# ---------------------------------------------------------------- a user's own


@pytest.mark.drill
@elasticsearch
async def test_the_document_s_third_projection_is_kept(
    settings: Settings, store: EventStore, role: Start, tmp_path: Path
) -> None:
    """The code of docs/projections.md, as it stands there."""
    text = DOCUMENT.read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "turnover.py").write_text(code)
    third = {
        "PYTHONPATH": str(tmp_path),
        "BANK_PROJECTIONS": "balance statement turnover:TURNOVER",
    }
    assert third["BANK_PROJECTIONS"] in text
    found: dict[str, Any] = {}
    exec(code, found)
    await role("bank", "forwarder", **third)
    worker = await role("bank", "worker", **third)
    load = Load(store)
    async with load.steady(150):
        await load.more(200)
        await worker.kill()
        await role("bank", "worker", **third)
        await load.more(100)
    await become_exact(settings, store, BALANCE, STATEMENT, found["TURNOVER"])
    command = await role("bank", "rebuild", "--projection", "turnover", "--wait", **third)
    assert await command.wait(120) == 0, command.log()
    await become_exact(settings, store, found["TURNOVER"])


def test_a_projection_that_is_not_to_be_found_is_named() -> None:
    assert projections("balance, statement") == (BALANCE, STATEMENT)
    for names, told in (
        ("balances", "'balances' is neither"),
        ("balance balance", "two of one name"),
        ("nowhere:AT_ALL", "No module named 'nowhere'"),
        ("pipeline.model.events:NOTHING", "has no attribute 'NOTHING'"),
        ("pipeline.model.events:SLOTS", "is no Projection"),
        (" ", "one projection at least"),
    ):
        with pytest.raises(UnknownProjection, match=told):
            projections(names)
    with pytest.raises(SettingsError, match=r"BANK_PROJECTIONS.*'balances' is neither"):
        load({"BANK_PROJECTIONS": "balances"})
