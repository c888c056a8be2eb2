"""Random commands to two replicas, with keys and conditions: every answer is the model's."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from ulid import ULID

from pipeline.support.settings import Settings
from tests.commands import (
    Command,
    Replicas,
    capture,
    close,
    create,
    deposit,
    freeze,
    hold,
    rename,
    replicas,
    send,
    transfer,
    unfreeze,
    void,
    withdraw,
)
from tests.harness import rounds
from tests.reference_model import Model
from tests.services import NOBODY

MOST = 2**53 - 1


class Step(NamedTuple):
    """A command to be, whose accounts and versions are known when its turn has come.

    `who` and `whom` count the accounts that there are then; `versions` are relative to the present
    one, None for `*`. `again` is the command some steps before, whatever else is said here.
    """

    kind: str
    who: int
    whom: int
    money: int
    replica: int
    key: str | None
    versions: list[int | None]
    again: int


WEIGHTS = {
    "create": 1,
    "deposit": 6,
    "withdraw": 6,
    "transfer": 6,
    "rename": 2,
    "freeze": 1,
    "unfreeze": 3,
    "close": 1,
    "hold": 4,
    "capture": 3,
    "void": 2,
}

steps = st.builds(
    Step,
    kind=st.sampled_from([kind for kind, weight in WEIGHTS.items() for _ in range(weight)]),
    who=st.integers(0, 3),
    whom=st.integers(0, 3),
    money=st.one_of(st.integers(1, 9), st.integers(1, 9), st.sampled_from([MOST, MOST - 5])),
    replica=st.integers(0, 1),
    key=st.one_of(st.none(), st.sampled_from("abcd")),
    versions=st.one_of(
        st.just([]),
        st.just([]),
        st.lists(st.one_of(st.none(), st.integers(-2, 2)), min_size=1, max_size=2),
    ),
    again=st.sampled_from([0, 0, 0, 1, 2, 3]),
)


def made(step: Step, accounts: list[str], model: Model) -> Command:
    who, whom = (accounts[n % len(accounts)] for n in (step.who, step.whom))
    if step.kind == "create":
        return create(f"Owner {step.whom}", step.money)
    if step.kind == "transfer":
        return transfer(who, whom, step.money)
    if step.kind in ("deposit", "withdraw"):
        return {"deposit": deposit, "withdraw": withdraw}[step.kind](who, step.money)
    if step.kind == "hold":
        return hold(who, step.money)
    if step.kind in ("capture", "void"):
        there = [*model.accounts[who].holds] if who in model.accounts else []
        named = there[step.whom % len(there)] if there else NOBODY
        return capture(who, named, step.money) if step.kind == "capture" else void(who, named)
    if step.kind == "rename":
        return rename(who, f"Owner {step.whom}")
    return {"freeze": freeze, "unfreeze": unfreeze, "close": close}[step.kind](who)


def condition(step: Step, command: Command, model: Model) -> tuple[str | None, set[str] | None]:
    """`If-Match`, and the versions that are in it."""
    if not step.versions:
        return None, None
    if None in step.versions:
        return "*", {"*"}
    about = command.body.get("from") or command.body.get("id") or command.path[1:]
    present = model.accounts[about].version if about in model.accounts else 1
    versions = {str(present + (offset or 0)) for offset in step.versions}
    return ", ".join(f'"{version}"' for version in versions), versions


async def run(bank: Replicas, sequence: list[Step]) -> None:
    model, sent = Model(), list[tuple[Command, str | None]]()
    names: dict[str, str] = {}
    for money in (10, 0):
        command = create(money=money)
        model.judge(command, None, None, await send(bank.bank, command))
    for step in sequence:
        accounts = [*model.accounts, NOBODY]
        command, key = made(step, accounts, model), step.key
        if 0 < step.again <= len(sent):
            command, key = sent[-step.again]
        elif key is not None:
            # The keys of a sequence are its own.
            key = names.setdefault(key, f"{key} {ULID()}")
        sent.append((command, key))
        if_match, versions = condition(step, command, model)
        answer = await send(bank[step.replica], command, key=key, if_match=if_match)
        model.judge(command, key, versions, answer)
    for account_id, account in model.accounts.items():
        for replica in (bank.bank, bank.other):
            async with replica.get(f"/{account_id}") as shown:
                document: dict[str, Any] = await shown.json()
                assert document == account.document(account_id)
        events = await bank.store.load(account_id)
        assert [event["version"] for event in events] == list(range(1, account.version + 1))


def test_every_answer_is_the_models(settings: Settings) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        bank = runner.run(stack.enter_async_context(replicas(settings)))

        @hypothesis.settings(
            max_examples=rounds(15, 500),
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(steps, min_size=20, max_size=60))
        def check(sequence: list[Step]) -> None:
            runner.run(run(bank, sequence))

        try:
            check()
        finally:
            runner.run(stack.aclose())
