"""The list of parked accounts: each change by compare-and-set, known to all who look."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.banking.balance import BALANCE
from pipeline.embedded.servers import EmbeddedServers
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.support.logs import moment
from pipeline.tables.parked_accounts import LONGEST, ParkedAccount, ParkedAccountList
from tests.conftest import placed
from tests.harness import eventually

ADA, BOB = "01JD0000000000000000000ADA", "01JD0000000000000000000B0B"


@pytest.fixture
async def nats(scratch: Path) -> AsyncIterator[EmbeddedServers]:
    """A NATS server of this test alone, to stop and restart."""
    embedded = EmbeddedServers(placed(scratch), ["nats"])
    await embedded.start()
    yield embedded
    await embedded.stop()


async def park(
    parked: ParkedAccountList, account_id: str = ADA, reason: str = "no such kind"
) -> ParkedAccount:
    return await parked.park(
        account_id, version=3, event_id="01JE", kind="MoneyBurnt", reason=reason
    )


async def test_who_parks_knows_it_at_once(js: JetStream) -> None:
    parked = ParkedAccountList(js, BALANCE)
    assert await parked.refresh() == frozenset()
    assert ADA not in parked
    account = await park(parked)
    assert (account.attempts, account.retry, account.reason) == (1, False, "no such kind")
    assert ADA in parked
    assert parked[ADA] == account
    assert parked.all() == [account]
    assert await parked.refresh() == frozenset(), "its own doing is no news"
    assert parked.all() == [account]
    assert await parked.drop(ADA)
    assert ADA not in parked
    with pytest.raises(KeyError):
        parked[ADA]
    assert await parked.refresh() == frozenset()


async def test_a_refresh_under_way_undoes_nothing(
    js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked = ParkedAccountList(js, BALANCE)
    request = js.nc.request
    parking: set[asyncio.Task[ParkedAccount]] = set()

    async def slow(subject: str, *rest: Any, **options: Any) -> Any:
        reply = await request(subject, *rest, **options)
        if "STREAM.INFO" in subject and not parking:
            parking.add(asyncio.create_task(park(parked)))
            await asyncio.wait(parking, timeout=0.2)
        return reply

    monkeypatch.setattr(js.nc, "request", slow)
    await parked.refresh()
    await asyncio.wait(parking)
    assert ADA in parked


async def test_parked_again_counts_an_attempt_and_answers_the_request(js: JetStream) -> None:
    parked = ParkedAccountList(js, BALANCE)
    first = await park(parked)
    assert await parked.ask_retry(ADA)
    asked = parked[ADA]
    assert asked == replace(first, retry=True, revision=asked.revision)
    again = await park(parked, reason="still none")
    assert again == replace(
        first, reason="still none", attempts=2, retry=False, revision=again.revision
    )
    assert again.revision > asked.revision > first.revision


async def test_who_waits_longest_comes_first(js: JetStream) -> None:
    parked = ParkedAccountList(js, BALANCE)
    await park(parked, BOB)
    await eventually(lambda: moment(time.time()) > parked[BOB].since)
    await park(parked, ADA)
    await park(parked, BOB)
    assert [each.account_id for each in parked.all()] == [BOB, ADA]


async def test_processes_learn_from_each_other(js: JetStream) -> None:
    worker, command = ParkedAccountList(js, BALANCE), ParkedAccountList(js, BALANCE)
    assert not await command.ask_retry(ADA)
    assert not await command.drop(ADA)
    await park(worker)
    assert await command.refresh() == {ADA}
    assert command.all() == worker.all()
    assert await command.ask_retry(ADA)
    assert not worker[ADA].retry
    assert await worker.refresh() == {ADA}
    assert worker[ADA].retry
    assert await worker.drop(ADA)
    assert not await command.ask_retry(ADA), "it writes to the entry as it is, not as it was"
    assert ADA not in command
    await park(worker)
    await command.refresh()
    assert await command.drop(ADA)
    assert await worker.refresh() == {ADA}
    assert ADA not in worker


async def test_all_at_once_from_many_sides(js: JetStream) -> None:
    """Whatever the order, no attempt is lost and the views agree."""
    sides = [ParkedAccountList(js, BALANCE) for _ in range(4)]
    for _ in range(5):
        await asyncio.gather(
            *(park(side) for side in sides),
            *(side.ask_retry(ADA) for side in sides),
            *(side.refresh() for side in sides),
        )
    await asyncio.gather(*(side.refresh() for side in sides))
    assert all(side.all() == sides[0].all() for side in sides)
    assert sides[0][ADA].attempts == 20
    dropped = await asyncio.gather(*(side.drop(ADA) for side in sides))
    assert sum(dropped) == 1
    assert not any(ADA in side for side in sides)


async def test_whatever_a_poison_event_holds_can_be_parked(js: JetStream) -> None:
    parked, other = ParkedAccountList(js, BALANCE), ParkedAccountList(js, BALANCE)
    ids = ["", "a b", "a.b", "*", ">", "Zoë", "a\n" * 3000, "=x"]
    for account_id in ids:
        account = await park(parked, account_id, reason="why\n\udc80 [x]" * 1000)
        assert len(account.reason) == LONGEST
        assert account_id in parked
    assert await other.refresh() == set(ids)
    assert other.all() == parked.all()
    for account_id in ids:
        assert await other.ask_retry(account_id)
        assert await parked.refresh() == {account_id}
        assert parked[account_id].retry
        assert await other.drop(account_id)
        assert await parked.refresh() == {account_id}
    assert parked.all() == []


async def test_an_entry_written_by_hand_is_skipped(
    js: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    parked, bucket = ParkedAccountList(js, BALANCE), Bucket(js, "parked")
    await park(parked)
    entry = await bucket.get(ADA)
    assert entry is not None
    wrong = [{}, {**entry.value, "version": "three"}, entry.value]
    for value in wrong:
        caplog.clear()
        await bucket.put(BOB, value)
        assert await parked.refresh() == frozenset()
        assert len(caplog.records) == 1
    assert [each.account_id for each in parked.all()] == [ADA]
    assert not await parked.ask_retry(BOB)
    await bucket.put(ADA, {})
    assert await parked.refresh() == {ADA}
    assert ADA not in parked
    assert (await park(parked)).attempts == 1


async def test_a_list_that_was_deleted_is_empty(js: JetStream) -> None:
    parked = ParkedAccountList(js, BALANCE)
    await park(parked, ADA)
    await park(parked, BOB)
    await js.context.delete_stream("KV_parked")
    assert await parked.refresh() == {ADA, BOB}
    assert parked.all() == []
    await park(parked, ADA)
    await js.context.delete_stream("KV_parked")
    assert (await park(parked, ADA)).attempts == 1
    assert await parked.refresh() == frozenset()


async def test_the_list_survives_the_server(nats: EmbeddedServers) -> None:
    server = nats.servers["nats"]
    js = await JetStream.connect(server.url, "test")
    try:
        parked = ParkedAccountList(js, BALANCE)
        account = await park(parked)
        await server.kill(signal.SIGKILL)
        await server.wait_dead()
        asking = asyncio.create_task(eventually(lambda: parked.ask_retry(ADA)))
        await server.start()
        await asking
        assert await eventually(lambda: read(server.url)) == [
            replace(account, retry=True, revision=parked[ADA].revision)
        ]
    finally:
        await js.close()


async def read(url: str) -> list[ParkedAccount]:
    """The list as a process finds it that starts now."""
    js = await JetStream.connect(url, "test")
    parked = ParkedAccountList(js, BALANCE)
    await parked.refresh()
    await js.close()
    return parked.all()
