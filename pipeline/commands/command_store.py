"""The event store, as far as the write engine uses it; `EventStore` is one, and says what each
method returns and raises."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from pipeline.commands.personal_keys import KeyStore
from pipeline.eventstore import AppendResult
from pipeline.model.events import Event
from pipeline.model.personal import Subject

Finish = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""What is to be done with a snapshot before it is written."""


class StoreGuards(Protocol):
    """What keeps versions and keys unique; see `Guards`."""

    epoch: int
    faults: Mapping[str, str] | None

    def check(self) -> None: ...

    async def look(self) -> None: ...

    async def require_whole(self) -> None: ...


class SnapshotStore(Protocol):
    """One snapshot for each aggregate; see `Snapshots`."""

    async def find(self, aggregate_id: str, /) -> dict[str, Any] | None: ...

    def keep(self, snapshot: dict[str, Any], finish: Finish | None = None, /) -> None: ...

    async def remove(self, aggregate_id: str, /) -> None: ...


class SubjectKeyStore(KeyStore, Protocol):
    """The keys of personal fields; see `SubjectKeys`."""

    async def known(self, subjects: Collection[str], /) -> dict[str, Subject]: ...

    async def find(self, subjects: Collection[str], /) -> dict[str, Subject]: ...

    async def forget(self, subject: str, since: int, /) -> bool: ...


class CommandStore(Protocol):
    """Where commands read and append events."""

    @property
    def guards(self) -> StoreGuards: ...

    @property
    def snapshots(self) -> SnapshotStore: ...

    @property
    def keys(self) -> SubjectKeyStore: ...

    async def setup(self, *, replace: bool = True) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, *events: Event, epoch: int | None = None) -> None: ...

    async def append_row(
        self, events: Sequence[Event], epoch: int | None = None
    ) -> AppendResult: ...

    async def under_keys(self, keys: Sequence[str]) -> dict[str, Event]: ...

    async def load(self, account_id: str, *, after: int = 0) -> list[Event]: ...

    async def snapshot_and_keys(
        self, account_id: str, /
    ) -> tuple[dict[str, Any] | None, Subject | None]: ...

    def walk(
        self,
        account_id: str,
        *,
        after: int = 0,
        to: int | None = None,
        keys: Mapping[str, Subject] | None = None,
    ) -> AsyncGenerator[list[Event], None]: ...

    async def page(self, account_id: str, *, after: int, limit: int) -> list[Event]: ...

    async def head(self, account_id: str) -> int: ...
