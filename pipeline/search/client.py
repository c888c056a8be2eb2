"""The Elasticsearch client: versioned bulks that retry for ever, reads, compare-and-set writes.

Every write names an alias and sets `require_alias`: else Elasticsearch would create a deleted index
again, with a guessed mapping.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    BadRequestError,
    NotFoundError,
    OrjsonSerializer,
    TransportError,
)

from pipeline.search import bulk_format, driver
from pipeline.search.values import (
    ConditionalWrite,
    FoundDocument,
    GenerationGone,
    ProjectionUnavailable,
    Stamp,
    Write,
    WriteOutcome,
)
from pipeline.support.access import ServerAccess
from pipeline.support.retry import Outage, brief

log = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_TIMEOUT: Final = 30.0
_UNFIT: Final = 400


def connect(at: ServerAccess | str, timeout: float = REQUEST_TIMEOUT) -> AsyncElasticsearch:
    """A client that tries each request once: only the caller knows whether a retry is safe."""
    return driver.client(
        at,
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
        serializer=OrjsonSerializer(),
    )


class Elastic:
    """The client of a worker; it waits for the end of any outage. `retries` counts repeats."""

    def __init__(self, at: ServerAccess | str) -> None:
        self.access = ServerAccess.of(at)
        self.client = connect(self.access)
        self.retries = 0
        self._outage = Outage(log, f"Elasticsearch at {self.access}")

    async def close(self) -> None:
        await self.client.close()

    async def bulk(self, alias: str, writes: Sequence[Write]) -> WriteOutcome:
        """Write the documents, retrying for ever what is busy or unreachable.

        Raises `GenerationGone`. Conflicts and rejected documents are returned.
        """
        return await self._through(
            alias, "index", [bulk_format.versioned(alias, write) for write in writes]
        )

    async def delete(self, alias: str, stamps: Mapping[str, Stamp]) -> set[str]:
        """Delete each document, if its last write is the stamp; return the ids of the others.

        Never by an external version: such a delete creates a missing index.
        """
        items = [bulk_format.removal(alias, each, stamp) for each, stamp in stamps.items()]
        ids, outcome = list(stamps), await self._through(alias, "delete", items)
        return {ids[i] for i in outcome.conflicts}

    async def _through(self, alias: str, operation: str, items: Sequence[bytes]) -> WriteOutcome:
        """Send the items in one bulk; send again those that Elasticsearch was too busy for."""
        outcome = WriteOutcome([], {})
        left: Sequence[int] = range(len(items))
        attempt = 0
        while left:
            body = b"\n".join(items[i] for i in left) + b"\n"
            answer = await self.patiently(lambda body=body: self._bulk(body))  # type: ignore[misc]
            if not answer["errors"]:
                break
            answers = [each[operation] for each in answer["items"]]
            left, why = _sort(alias, dict(zip(left, answers, strict=True)), outcome)
            if left:
                self.retries += 1
                await self._outage.pause(ProjectionUnavailable(why), attempt)
                attempt += 1
        if attempt:
            self._outage.over()
        return outcome

    async def _bulk(self, body: bytes) -> dict[str, Any]:
        """The driver sends encoded bytes as they are, although its type hints ask for a list."""
        answer = await self.client.bulk(
            operations=body,  # type: ignore[arg-type]
            require_alias=True,
            filter_path="errors,items.*.status,items.*.error.reason",
        )
        return dict(answer.body)

    async def mget(self, alias: str, ids: Sequence[str]) -> dict[str, FoundDocument]:
        """The documents that exist, by id, as of now. Raises `GenerationGone`."""
        found: dict[str, FoundDocument] = {}
        for item in await self.patiently(lambda: self._mget(alias, ids)):
            if item["found"]:
                stamp = Stamp(item["_seq_no"], item["_primary_term"])
                found[item["_id"]] = FoundDocument(item["_version"], stamp, item["_source"])
        return found

    async def _mget(self, alias: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        answer = await self.client.mget(index=alias, ids=list(ids))
        documents: list[dict[str, Any]] = answer["docs"]
        for item in documents:
            error = item.get("error")
            if error and error["type"] == "index_not_found_exception":  # yet the status is 200
                raise GenerationGone(f"{alias}: {_reason(error)}")
            if error:  # a shard that has not started yet
                raise ProjectionUnavailable(_reason(error))
        return documents

    async def compare_and_set(
        self, alias: str, writes: Sequence[ConditionalWrite]
    ) -> list[Stamp | None]:
        """Write each document whose condition holds; the others' stamps are None.

        Tried once: after a lost answer (`ProjectionUnavailable`) the caller must read again.
        Raises `GenerationGone`.
        """
        items: list[Any] = [bulk_format.conditional(alias, write) for write in writes]
        try:
            answer = await self.client.bulk(operations=items, require_alias=True)
        except (ApiError, TransportError) as error:
            raise ProjectionUnavailable(brief(error)) from error
        stamps: list[Stamp | None] = []
        for entry in answer["items"]:
            (item,) = entry.values()
            if item["status"] < 300:
                stamps.append(Stamp(item["_seq_no"], item["_primary_term"]))
            elif item["status"] == 409:
                stamps.append(None)
            elif item["status"] == 404:
                raise GenerationGone(f"{alias}: {_reason(item['error'])}")
            else:
                raise ProjectionUnavailable(_reason(item["error"]))
        return stamps

    async def awaken(self, index: str) -> None:
        """Search once, for nothing; errors are ignored.

        A server may begin to refresh an index, so that searches see what is written, only when it
        is searched for the first time.
        """
        with suppress(ApiError):
            await self.client.search(index=index, size=0)

    async def boots(self) -> dict[str, int]:
        """When each node was started (milliseconds since the epoch), by its id.

        A node that was restarted may have lost what it had not saved yet. Empty if the server
        refuses to answer.
        """

        async def ask() -> dict[str, int]:
            try:
                answer = await self.client.nodes.info(
                    metric="jvm", filter_path="nodes.*.jvm.start_time_in_millis"
                )
            except ApiError as error:
                if error.status_code in (400, 401, 403, 404, 410):
                    return {}
                raise
            nodes = answer.body.get("nodes", {})
            return {node: info["jvm"]["start_time_in_millis"] for node, info in nodes.items()}

        return await self.patiently(ask)

    async def make_index(
        self,
        name: str,
        aliases: Mapping[str, Any],
        mappings: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> bool:
        """Create an index unless it exists; whether it was created. Raises the driver's errors."""
        try:
            await self.client.indices.create(
                index=name, aliases=aliases, mappings=mappings, settings=settings
            )
        except BadRequestError as error:
            if error.error != "resource_already_exists_exception":
                raise
            return False
        return True

    async def extend_mapping(self, alias: str, mappings: Mapping[str, Any]) -> None:
        """Add the fields that an index lacks. Raises the driver's errors."""
        await self.client.indices.put_mapping(index=alias, properties=mappings["properties"])

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until Elasticsearch answers. A 404 raises `GenerationGone`."""
        attempt = 0
        while True:
            try:
                with self._outage.noticing():
                    answer = await call()
            except NotFoundError as error:
                raise GenerationGone(brief(error)) from error
            except (ApiError, TransportError, ProjectionUnavailable) as error:
                self.retries += 1
                await self._outage.pause(error, attempt)
                attempt += 1
            else:
                self._outage.over()
                return answer


def _sort(
    alias: str, answers: Mapping[int, Any], outcome: WriteOutcome
) -> tuple[list[int], str | None]:
    """Note conflicts and rejected documents in the outcome; return what to send again, and why.

    `answers` are by position in the list of items. Raises `GenerationGone`.
    """
    busy: list[int] = []
    why = None
    for i, answer in answers.items():
        status, error = answer["status"], answer.get("error")
        if status == 409:
            outcome.conflicts.append(i)
        elif status == 404:  # the generation's alias is gone
            raise GenerationGone(f"{alias}: {_reason(error)}")
        elif status == _UNFIT:
            outcome.rejected[i] = _reason(error)
        elif status >= 300:  # 429, 5xx, a read-only index: the document is not at fault
            busy.append(i)
            why = f"{status} {_reason(error)}"
    return busy, why


def _reason(error: Any) -> str:
    return str(error.get("reason", error))[:300] if isinstance(error, dict) else str(error)[:300]
