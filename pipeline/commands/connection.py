"""An application's write side as one value: its aggregates by name, on its event store."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from typing import Any, Final, Protocol, TypeVar

from pipeline.application import Application
from pipeline.commands.command_context import CommandContext, ExactVersion
from pipeline.commands.command_store import CommandStore
from pipeline.commands.errors import NotInApplication
from pipeline.commands.execution import Done
from pipeline.commands.forgetting import Forgotten
from pipeline.commands.service import CommandService
from pipeline.eventstore import StoreUnavailable, StoreUnguarded
from pipeline.model.aggregate import Aggregate, Joint
from pipeline.model.claims import is_reserved
from pipeline.model.events import is_id
from pipeline.model.ulids import new_ulid
from pipeline.model.versioned import Versioned
from pipeline.support.cancellation import running
from pipeline.support.correlation import current
from pipeline.support.retry import Outage

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 2.0
"""Between two looks at the guards of the event store while no command is executed."""

_FAILURES: Final = (StoreUnavailable, StoreUnguarded)

AnyAggregate = Aggregate[Any, Any] | str
"""An aggregate of the application, or its name."""

_Asked = tuple[str, Sequence[str], Any]
"""The name of an aggregate or a joint command, the ids, and the command."""


class Connection:
    """Executes commands of one application on its event store.

    `execute`, `create` and `together` may be given an idempotency `key`, under which a command is
    executed once; the `version` that the (first) aggregate must have, 0 for none; and a
    `correlation_id`, by default that of the request under way or a new one. They raise what
    `CommandService` says, `NotInApplication`, and `ValueError` for what can't be an id. With a key
    `TypeError` if the command has no form that is the same in every process.
    """

    def __init__(
        self,
        application: Application,
        store: CommandStore,
        *,
        cached: int = 10_000,
        begin_chains: bool = True,
        encrypt: bool = True,
    ) -> None:
        """As of `CommandService`."""
        self.application, self.store = application, store
        self.service = CommandService(
            store,
            application.all_aggregates,
            cached=cached,
            begin_chains=begin_chains,
            encrypt=encrypt,
        )

    async def opened(self, patience: float) -> None:
        """Open the store; raises `StoreUnavailable` if that takes longer than `patience`, in
        seconds."""
        try:
            async with asyncio.timeout(patience):
                await _outage().retry_forever(self.service.watch, _FAILURES)
        except TimeoutError:
            why = f"the event store could not be opened within {patience:g} s"
            raise StoreUnavailable(why) from None

    @asynccontextmanager
    async def watched(self, *, every: float = WATCH_SECONDS) -> AsyncIterator[None]:
        """Open the store, however long it takes to appear, and watch its guards until the block
        ends. Commands are refused until it is open, and while a guard is missing. `every`: seconds
        between two looks."""
        async with running(_outage().every(every, self.service.watch, _FAILURES)):
            yield

    async def close(self) -> None:
        """Wait for the appends in flight, then disconnect."""
        await self.store.close()

    async def execute(
        self,
        aggregate: AnyAggregate,
        aggregate_id: str,
        command: Any,
        *,
        key: str | None = None,
        version: int | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> Done[Any]:
        """Execute a command to one aggregate. `causation_id`: of the event that caused it."""
        found = self._aggregate(aggregate)
        _require_ids([found], [aggregate_id])
        asked = (found.name, [aggregate_id], command)
        context = _context(asked, key, version, correlation_id, causation_id)
        return await self.service.execute(found, aggregate_id, command, context)

    async def create(
        self,
        aggregate: AnyAggregate,
        command: Any,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Done[Any]:
        """Execute the first command to an aggregate, which gets a new id."""
        found = self._aggregate(aggregate)
        context = _context((found.name, [], command), key, None, correlation_id)
        return await self.service.create(found, command, context)

    async def together(
        self,
        joint: Joint[Any] | str,
        ids: Sequence[str],
        command: Any,
        *,
        key: str | None = None,
        version: int | None = None,
        correlation_id: str | None = None,
    ) -> Done[Any]:
        """Execute a command over several aggregates, whole or not at all; the result of the
        first."""
        found = _named(self.application, "joint command", self.application.joints, joint)
        _require_ids(found.aggregates, ids)
        context = _context((found.name, ids, command), key, version, correlation_id)
        return await self.service.execute_together(found, ids, command, context)

    async def get(self, aggregate: AnyAggregate, aggregate_id: str) -> Versioned[Any]:
        """The aggregate as the event store has it now, or `AggregateNotFound`."""
        return await self.service.get(self._aggregate(aggregate), aggregate_id)

    async def forget(
        self, aggregate: AnyAggregate, aggregate_id: str, *, correlation_id: str | None = None
    ) -> Forgotten:
        """Have what the aggregate's events say of somebody forgotten, for good."""
        found = self._aggregate(aggregate)
        context = CommandContext(correlation_id or current() or new_ulid())
        return await self.service.forget(found, aggregate_id, context)

    def _aggregate(self, named: AnyAggregate) -> Aggregate[Any, Any]:
        return _named(self.application, "aggregate", self.application.all_aggregates, named)


def _outage() -> Outage:
    return Outage(log, "The guards of the event store", most=WATCH_SECONDS)


class _Named(Protocol):
    name: str


N = TypeVar("N", bound=_Named)


def _named(application: Application, what: str, among: Iterable[N], named: N | str) -> N:
    known = {each.name: each for each in among}
    if isinstance(named, str) and named in known:
        return known[named]
    if not isinstance(named, str) and named in known.values():
        return named
    has = f"only {', '.join(known)}" if known else "and none at all"
    raise NotInApplication(f"{application.name} has no {what} {named!r}, {has}")


def _require_ids(aggregates: Sequence[Aggregate[Any, Any]], ids: Sequence[str]) -> None:
    for aggregate, each in zip(aggregates, ids, strict=True):
        if not is_id(each):
            raise ValueError(f"{each!r} is no id: 1 to 64 letters, digits, _ and -")
        if is_reserved(each, aggregate):
            raise ValueError(f"{each!r} is no id of a {aggregate.name}, but of a claim")


def _context(
    asked: _Asked,
    key: str | None,
    version: int | None,
    correlation_id: str | None,
    causation_id: str | None = None,
) -> CommandContext:
    return CommandContext(
        correlation_id or current() or new_ulid(),
        key,
        fingerprint(*asked) if key is not None else "",
        None if version is None else ExactVersion(version),
        causation_id=causation_id,
    )


def fingerprint(name: str, ids: Sequence[str], command: Any) -> str:
    """A hash of a command and to what: by it another command under the same key is refused. Raises
    `TypeError` for a command that has no form which is the same in every process."""
    asked = [name, list(ids), type(command).__qualname__, command]
    return hashlib.sha256(_json(asked).encode()).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: object) -> object:
    """What JSON does not know, in a form that is the same in every process, or `TypeError`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(map(_json, value))
    text = repr(value)
    if " at 0x" in text:  # where it is in memory, which is another place in each process
        raise TypeError(f"a command with a key can't have {text}: it has no fixed form")
    return text
