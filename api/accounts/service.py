"""Command handling: load, decide, append, and decide again when another replica was first."""

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

from ulid import ULID

from api.accounts.account import (
    Account,
    AccountNotFound,
    Command,
    Create,
    Deposit,
    Refused,
    TransferToSelf,
    UpdateOwner,
    Withdraw,
    decide,
    evolve,
    fold,
    initial,
)
from api.accounts.local import Cache, Locks
from pipeline.events import Event, new_event
from pipeline.eventstore import EventStore, StoreUnavailable, VersionConflict

ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.002


class TooManyConflicts(Exception):
    """Others wrote to the account in every one of `ATTEMPTS` attempts. Nothing was stored."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """A transfer's id and its two accounts as it left them."""

    id: str
    source: Account
    target: Account


class AccountService:
    """Executes commands on one event store; any number of replicas may share that store.

    Every method may raise `StoreUnavailable`: the outcome of a command is then unknown. Commands
    raise `Refused` or `TooManyConflicts` when nothing was stored.
    """

    def __init__(self, store: EventStore, *, cached: int = 10_000) -> None:
        """`cached`: how many accounts' states to remember; 0 loads each anew."""
        self._store = store
        self._cache = Cache(cached)
        self._locks = Locks()
        self._opened = False

    async def open(self) -> None:
        """Make the store's indexes. Until this succeeded once no command is executed."""
        await self._store.setup()
        self._opened = True

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless commands can be executed now."""
        self._require_opened()
        await self._store.ping()

    async def create(self, owner: str, money: int, *, correlation_id: str) -> Account:
        """Open an account with a new id and `money` minor units in it."""
        account_id = str(ULID())
        # An id made just now has no history to load.
        self._cache.put(initial(account_id))
        return await self._one(account_id, Create(owner, money), correlation_id)

    async def deposit(self, account_id: str, money: int, *, correlation_id: str) -> Account:
        return await self._one(account_id, Deposit(money), correlation_id)

    async def withdraw(self, account_id: str, money: int, *, correlation_id: str) -> Account:
        return await self._one(account_id, Withdraw(money), correlation_id)

    async def update_owner(self, account_id: str, owner: str, *, correlation_id: str) -> Account:
        return await self._one(account_id, UpdateOwner(owner), correlation_id)

    async def transfer(
        self, source: str, target: str, money: int, *, correlation_id: str
    ) -> Transferred:
        """Move money from one account to another, whole or not at all."""
        if source == target:
            raise TransferToSelf(source)
        transfer_id = str(ULID())
        legs: dict[str, Command] = {
            source: Withdraw(money, {"id": transfer_id, "counterparty": target}),
            target: Deposit(money, {"id": transfer_id, "counterparty": source}),
        }
        after = await self._execute(legs, correlation_id)
        return Transferred(transfer_id, after[source], after[target])

    async def get(self, account_id: str) -> Account:
        """The account as the event store has it now, or `AccountNotFound`."""
        account = fold(account_id, await self._store.load(account_id))
        if not account.version:
            raise AccountNotFound(account_id)
        return account

    async def _one(self, account_id: str, command: Command, correlation_id: str) -> Account:
        return (await self._execute({account_id: command}, correlation_id))[account_id]

    async def _execute(
        self, commands: Mapping[str, Command], correlation_id: str
    ) -> dict[str, Account]:
        """Decide one command for each account and append all their events, whole or not."""
        self._require_opened()
        async with self._locks.hold(commands):
            states, fresh = await self._states(commands)
            for attempt in range(ATTEMPTS):
                try:
                    return await self._attempt(commands, states, correlation_id)
                except Refused:
                    # A remembered state may lack another's deposit: only a loaded one refuses.
                    if fresh:
                        raise
                except VersionConflict:
                    await asyncio.sleep(random.uniform(0, _FIRST_PAUSE * 2**attempt))
                states, fresh = await self._caught_up(states), True
        raise TooManyConflicts

    def _require_opened(self) -> None:
        if not self._opened:
            raise StoreUnavailable("without its unique indexes the store guards nothing")

    async def _states(self, account_ids: Collection[str]) -> tuple[dict[str, Account], bool]:
        """The accounts' states, and whether all were loaded just now."""
        known = {i: state for i in account_ids if (state := self._cache.get(i))}
        missing = {i: initial(i) for i in account_ids if i not in known}
        return known | await self._caught_up(missing), not known

    async def _caught_up(self, states: Mapping[str, Account]) -> dict[str, Account]:
        """The states with all that was stored since: events never change, so none is read twice."""
        since = await asyncio.gather(
            *(self._store.load(i, after=state.version) for i, state in states.items())
        )
        return {
            i: reduce(evolve, events, state)
            for (i, state), events in zip(states.items(), since, strict=True)
        }

    async def _attempt(
        self, commands: Mapping[str, Command], states: Mapping[str, Account], correlation_id: str
    ) -> dict[str, Account]:
        try:
            events = {i: _events(c, states[i], correlation_id) for i, c in commands.items()}
            _link(events)
            await self._store.append(*(event for its in events.values() for event in its))
        except BaseException:
            # After a conflict the states are old, after any other failure nobody knows.
            self._cache.drop(commands)
            raise
        after = {i: reduce(evolve, events[i], states[i]) for i in commands}
        for state in after.values():
            self._cache.put(state)
        return after


def _events(command: Command, state: Account, correlation_id: str) -> list[Event]:
    return [
        new_event(state.id, state.version + n, kind, body, correlation_id=correlation_id)
        for n, (kind, body) in enumerate(decide(command, state), start=1)
    ]


def _link(events: Mapping[str, list[Event]]) -> None:
    """Name the first event (a transfer's withdrawal) as the cause of all the others."""
    first, *others = [event for its in events.values() for event in its]
    for event in others:
        event["causation_id"] = first["_id"]
