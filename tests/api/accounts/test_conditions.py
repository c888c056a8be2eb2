"""`If-Match`: a command is executed at the version its sender believes in, or not at all."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from pipeline.support.settings import Settings
from tests.commands import (
    Replicas,
    close,
    create,
    deposit,
    freeze,
    opened,
    rename,
    replicas,
    send,
    transfer,
    unfreeze,
    withdraw,
)
from tests.harness import cases, rounds
from tests.services import NOBODY


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Replicas]:
    async with replicas(settings) as both:
        yield both


async def at_version_3(bank: Replicas) -> str:
    account = await opened(bank.bank)
    for _ in range(2):
        assert (await send(bank.bank, deposit(account))).status == 200
    return account


@cases(
    ("given", "status"),
    [
        ('"3"', 200),
        ("*", 200),
        ('"1", "3"', 200),
        (', "3" ,,', 200),
        ('W/"1","3"', 200),
        ('"a,b", "3"', 200),
        ('"2"', 412),
        ('"4"', 412),
        ('W/"3"', 412),
        ('W/"1",W/"3"', 412),
        ('"03"', 412),
        ('"*"', 412),
        ('""', 412),
        ('" 3"', 400),
        ("3", 400),
        ("", 400),
        (",", 400),
        ('"3', 400),
        ('"3" "4"', 400),
        ('w/"3"', 400),
        ('*, "3"', 400),
    ],
)
async def test_what_matches(bank: Replicas, given: str, status: int) -> None:
    account = await at_version_3(bank)
    answer = await send(bank.other, deposit(account), if_match=given)
    names = {200: "", 412: "version-mismatch", 400: "invalid-if-match"}
    assert (answer.status, answer.problem) == (status, names[status])
    assert (await bank.read(account))["version"] == 3 + (status == 200)


async def test_several_headers_are_one_list(bank: Replicas) -> None:
    account = await at_version_3(bank)
    headers = [("If-Match", '"1"'), ("If-Match", '"3"')]
    async with bank.bank.post("/deposit", json=deposit(account).body, headers=headers) as answer:
        assert answer.status == 200
    assert (await bank.read(account))["version"] == 4


async def test_a_mismatch_tells_the_present_version(bank: Replicas) -> None:
    account = await at_version_3(bank)
    answer = await send(bank.other, withdraw(account), if_match='"1"')
    assert (answer.status, answer.problem, answer.etag) == (412, "version-mismatch", '"3"')
    assert (answer.document["account"], answer.document["version"]) == (account, 3)
    assert (await send(bank.other, withdraw(account), if_match=answer.etag)).status == 200


async def test_every_command_minds_it(bank: Replicas) -> None:
    """Each is refused at a version that was, then executed at the one that is."""
    account, other = await opened(bank.bank, 1), await opened(bank.bank)
    commands = [
        deposit(account, 8),
        withdraw(account, 8),
        transfer(account, other),
        rename(account),
        freeze(account),
        unfreeze(account),
        close(account),
    ]
    for version, command in enumerate(commands, start=1):
        stored = await bank.store.count()
        stale = await send(bank.other, command, if_match=f'"{version - 1}", "{version + 1}"')
        assert (stale.status, stale.etag) == (412, f'"{version}"'), command
        assert await bank.store.count() == stored
        done = await send(bank.other, command, if_match=f'"{version}"')
        assert (done.status, done.etag) == (200, f'"{version + 1}"'), command


async def test_a_transfer_speaks_of_the_account_that_pays(bank: Replicas) -> None:
    source, target = await at_version_3(bank), await opened(bank.bank)
    move = transfer(source, target)
    assert (await send(bank.bank, move, if_match='"1"')).problem == "version-mismatch"
    assert (await send(bank.bank, move, if_match='"3"')).status == 200
    assert (await bank.read(target))["version"] == 2


async def test_what_is_not_there_matches_nothing(bank: Replicas) -> None:
    for given in ("*", '"0"'):
        assert (await send(bank.bank, deposit(NOBODY), if_match=given)).status == 404
        answer = await send(bank.bank, create(), if_match=given)
        assert (answer.status, answer.problem, answer.etag) == (412, "version-mismatch", None)
    assert await bank.store.count() == 0


async def test_a_mismatch_comes_before_what_the_account_would_refuse(bank: Replicas) -> None:
    account = await opened(bank.bank)
    answer = await send(bank.bank, withdraw(account, 5), if_match='"7"')
    assert answer.problem == "version-mismatch"
    answer = await send(bank.bank, withdraw(account, 5), if_match='"1"')
    assert answer.problem == "insufficient-funds"


async def test_a_remembered_version_refuses_nobody(bank: Replicas) -> None:
    """`bank` remembers version 1; what `other` stored counts at once."""
    account = await opened(bank.bank)
    await send(bank.other, deposit(account))
    assert (await send(bank.bank, deposit(account), if_match='"2"')).status == 200
    await send(bank.other, deposit(account))
    assert (await send(bank.bank, deposit(account), if_match='"3"')).etag == '"4"'


async def test_of_many_with_the_same_version_one_is_executed(bank: Replicas) -> None:
    """On one replica they are decided in a row, on two they race."""
    account = await opened(bank.bank, 1_000)
    for number in range(rounds(20, 200)):
        version = f'"{number + 1}"'
        turns = random.sample(range(8), 8) if number % 2 else [0] * 8
        answers = await asyncio.gather(
            *(send(bank[turn], withdraw(account), if_match=version) for turn in turns)
        )
        assert sorted(each.status for each in answers) == [200] + [412] * 7
        assert {each.etag for each in answers} == {f'"{number + 2}"'}
        assert (await bank.read(account))["version"] == number + 2


async def test_what_was_done_is_answered_whatever_the_version_is_now(bank: Replicas) -> None:
    account = await opened(bank.bank)
    first = await send(bank.bank, deposit(account), key="k", if_match='"1"')
    await send(bank.bank, deposit(account))
    for given in ('"1"', '"2"', None):
        again = await send(bank.other, deposit(account), key="k", if_match=given)
        assert again.replayed
        assert again.content == first.content
    other = await send(bank.other, deposit(account, 2), key="k", if_match='"1"')
    assert other.problem == "idempotency-key-reused"


async def test_a_mismatch_leaves_the_key_free(bank: Replicas) -> None:
    account = await opened(bank.bank)
    assert (await send(bank.bank, deposit(account), key="k", if_match='"9"')).status == 412
    done = await send(bank.other, deposit(account), key="k", if_match='"1"')
    assert (done.status, done.replayed) == (200, False)
