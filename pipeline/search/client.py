"""The Elasticsearch client: versioned bulks that retry for ever, reads, compare-and-set writes.

Every write names an alias and sets `require_alias`: else Elasticsearch would create a deleted index
again, with a guessed mapping.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
from pipeline.search.shared_client import SharedClient
from pipeline.search.values import (
    NOBODY,
    NOTHING,
    PREFERENCE,
    ConditionalWrite,
    FoundDocument,
    GenerationGone,
    ProjectionBroken,
    ProjectionMissing,
    ProjectionUnavailable,
    Stamp,
    Write,
    WriteOutcome,
)
from pipeline.support.access import ServerAccess
from pipeline.support.retry import Outage, brief

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

REQUEST_TIMEOUT: Final = 30.0
MOST_BYTES: Final = 10 * 1024 * 1024
"""A bulk has at most so many; Elasticsearch refuses one of more than 100 MB, a proxy before it may
refuse a smaller one."""
_QUOTED: Final = re.compile(r" in document with id |\.? Preview of | containing \[|,? request: \[")
"""Where Elasticsearch's reasons begin to quote the document, or the request with it."""
_REFUSED: Final = (400, 413)
_TRIES: Final = 3
"""A bulk that failed so often is sent in halves, if a small one passes."""


def connect(
    at: ServerAccess | str, timeout: float = REQUEST_TIMEOUT, *, repeat: bool = False
) -> AsyncElasticsearch:
    """A client that sends each request once: only the caller knows whether a retry is safe. One
    that is to `repeat` tries each node once, for those who only read."""
    return driver.client(at, timeout=timeout, repeat=repeat, serializer=OrjsonSerializer())


class Elastic:
    """The client of one projection in a worker; it waits for the end of any outage.

    `retries` counts repeats. With a `shared` client its requests go together with those of others;
    its retries and its trouble are its own.
    """

    _only_reads = False

    def __init__(self, at: ServerAccess | str, shared: SharedClient | None = None) -> None:
        self.access, self._owns = ServerAccess.of(at), shared is None
        self._shared = shared or SharedClient(connect(self.access, repeat=self._only_reads))
        self.client = self._shared.client
        self.retries = 0
        self._outage = Outage(log, f"Elasticsearch at {self.access}")
        self._most = MOST_BYTES

    async def close(self) -> None:
        """Close the client, unless others share it."""
        if self._owns:
            await self._shared.close()

    @property
    def trouble(self) -> str | None:
        """Why requests are being repeated for some seconds already; None if they are not."""
        return self._outage.reason

    async def bulk(
        self,
        alias: str,
        writes: Sequence[Write],
        *,
        index: str | None = None,
        sample: Mapping[str, Any] = NOTHING,
    ) -> WriteOutcome:
        """Write the documents, retrying for ever what is busy, unreachable or not in order.

        Conflicts are returned, and documents that are rejected for what is wrong with them alone:
        the index would have taken `sample`, a document of the same kind, at the same moment. Raises
        `GenerationGone`, also if the alias leads to another index than `index`.
        """
        items = [bulk_format.versioned(alias, write) for write in writes]
        return await self._through(alias, items, index, sample)

    async def delete(self, alias: str, stamps: Mapping[str, Stamp]) -> set[str]:
        """Delete each document, if its last write is the stamp; return the ids of the others.

        Never by an external version: such a delete creates a missing index.
        """
        items = [bulk_format.removal(alias, each, stamp) for each, stamp in stamps.items()]
        ids, outcome = list(stamps), await self._through(alias, items)
        return {ids[i] for i in outcome.conflicts}

    async def _through(
        self,
        alias: str,
        items: Sequence[bytes],
        index: str | None = None,
        sample: Mapping[str, Any] = NOTHING,
    ) -> WriteOutcome:
        """Send the items; send again those that are not to be blamed for having failed."""
        outcome = WriteOutcome([], {})
        left: Sequence[int] = range(len(items))
        probe: list[bytes] = []
        attempt = 0
        while left:
            answers = await self._send(alias, [items[i] for i in left], probe)
            _check_index(alias, answers, index)
            by_position = dict(zip(left, answers, strict=True))
            doubted, busy, why = _sort(alias, by_position, outcome)
            if probe:
                bad = [i for i in doubted if by_position[i].get("bad")]
                outcome.rejected.update({i: _reason(by_position[i]["error"]) for i in bad})
                doubted = [i for i in doubted if i not in outcome.rejected]
            left = sorted(doubted + busy)
            if doubted and not probe:
                # Is it the documents, or the index? The probe goes first in each bulk, so its
                # documents find the same alias, blocks and mapping.
                probe = [bulk_format.probe(alias, sample)]
            elif left:
                self.retries += 1
                await self._outage.pause(ProjectionUnavailable(why), attempt)
                attempt += 1
        if attempt:
            self._outage.over()
        return outcome

    async def _send(
        self, alias: str, items: Sequence[bytes], probe: Sequence[bytes]
    ) -> list[dict[str, Any]]:
        """The answer to each item, of as many bulks as it takes.

        `bad` is set if a refusal is for the item alone: the probe of its bulk passed, or its bulk
        had no other item and was refused (it has that status), while another bulk passed.
        """
        answers: list[dict[str, Any]] = []
        for chunk in _chunks(items, self._most):
            answers += await self._send_whole(alias, chunk, probe)
        return answers

    async def _send_whole(
        self, alias: str, items: Sequence[bytes], probe: Sequence[bytes]
    ) -> list[dict[str, Any]]:
        """The same in one bulk, in halves if that can't succeed as a whole."""
        body = b"\n".join([*probe, *items]) + b"\n"
        attempt = 0
        while True:
            try:
                with self._outage.noticing():
                    # What has failed goes alone: it may hang for the sake of its own index.
                    answers = await self._shared.bulk(
                        body, len(probe) + len(items), alone=attempt > 0
                    )
            except NotFoundError as error:
                raise GenerationGone(brief(error)) from error
            except (ApiError, TransportError) as error:
                status = error.status_code if isinstance(error, ApiError) else 0
                hopeless = status in _REFUSED or attempt % _TRIES == _TRIES - 1
                if hopeless and (len(items) > 1 or status in _REFUSED) and await self._pass(alias):
                    if len(items) == 1 and probe:  # both may be too large, but not the item
                        return await self._send_whole(alias, items, [])
                    if len(items) == 1:
                        return [{"status": status, "error": brief(error), "bad": True}]
                    if status == 413:
                        self._most = min(self._most, len(body) // 2)
                    log.warning("a bulk of %d bytes is sent in halves: %s", len(body), brief(error))
                    return await _in_halves(
                        lambda half: self._send_whole(alias, half, probe), items
                    )
                self.retries += 1
                await self._outage.pause(error, attempt)
                attempt += 1
            else:
                self._outage.over()
                if probe and answers.pop(0)["status"] == 409:
                    for each in answers:
                        each["bad"] = True
                return answers

    async def _pass(self, alias: str) -> bool:
        """Whether a small bulk gets an answer."""
        try:
            await self._shared.bulk(bulk_format.probe(alias, NOTHING) + b"\n", 1, alone=True)
        except (ApiError, TransportError):
            return False
        return True

    async def mget(self, alias: str, ids: Sequence[str]) -> dict[str, FoundDocument]:
        """The documents that exist, by id, as of now. Raises `GenerationGone`."""
        found: dict[str, FoundDocument] = {}
        for item in await self._answers(alias, ids):
            if item["found"]:
                stamp = Stamp(item["_seq_no"], item["_primary_term"])
                found[item["_id"]] = FoundDocument(item["_version"], stamp, item["_source"])
        return found

    async def _answers(self, alias: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What Elasticsearch answers for each id, asked in halves after some failures: a proxy may
        break off what it finds too large."""
        try:
            return await self.patiently(
                lambda: self._mget(alias, ids), most=_TRIES if len(ids) > 1 else None
            )
        except (ApiError, TransportError, ProjectionUnavailable):
            return await _in_halves(lambda half: self._answers(alias, half), ids)

    async def _mget(self, alias: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        try:
            documents = await self._shared.mget(alias, ids)
        except ApiError as refused:
            if refused.status_code != 413 or len(ids) < 2:
                raise
            return await _in_halves(lambda half: self._mget(alias, half), ids)
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
        lines = b"".join(bulk_format.conditional(alias, write) + b"\n" for write in writes)
        try:
            answers = await self._shared.compare_and_set(lines, len(writes))
        except (ApiError, TransportError) as error:
            if len(writes) > 1 and isinstance(error, ApiError) and error.status_code == 413:
                return await _in_halves(lambda half: self.compare_and_set(alias, half), writes)
            raise ProjectionUnavailable(brief(error)) from error
        stamps: list[Stamp | None] = []
        for item in answers:
            if item["status"] < 300:
                stamps.append(Stamp(item["_seq_no"], item["_primary_term"]))
            elif item["status"] == 409:
                stamps.append(None)
            elif item["status"] == 404:
                raise GenerationGone(f"{alias}: {_reason(item['error'])}")
            else:
                raise ProjectionUnavailable(_reason(item["error"]))
        return stamps

    async def indexes(self, names: str) -> dict[str, Any]:
        """See `SharedClient.indexes`. Raises the driver's errors."""
        return await self._shared.indexes(names)

    async def keep_alias(self, alias: str, index: str) -> None:
        """Have the alias on that index alone, without options, if the index is there. Raises the
        driver's errors."""
        found = await self.indexes(f"{index},{alias}")
        actions: list[dict[str, Any]] = []
        for name, about in found.items():
            options = about.get("aliases", {}).get(alias)
            if name == alias:  # a write made it when the alias was gone
                actions.append({"remove_index": {"index": name}})
            elif name == index and options != {}:
                actions.append({"add": {"index": name, "alias": alias}})
            elif name != index:
                actions.append({"remove": {"index": name, "alias": alias, "must_exist": True}})
        if actions and index in found:
            await self.client.indices.update_aliases(actions=actions)
            log.warning("the alias %s is on %s alone again: %s", alias, index, actions)

    async def require_readable(self, alias: str) -> None:
        """Read by id once, as a reader would; raises `ProjectionUnavailable`."""
        await require_readable(self.client, alias)

    async def awaken(self, index: str) -> None:
        """Search once, for nothing; errors are ignored.

        A server may begin to refresh an index, so that searches see what is written, only when it
        is searched for the first time.
        """
        with suppress(ApiError):
            await self.client.search(index=index, size=0, preference=PREFERENCE)

    async def boots(self) -> dict[str, int]:
        """When each node was started (milliseconds since the epoch), by its id.

        A node that was restarted may have lost what it had not saved yet. Empty if the server
        refuses to answer.
        """

        async def ask() -> dict[str, int]:
            try:
                answer = await self._shared.boots()
            except ApiError as error:
                if error.status_code in (400, 401, 403, 404, 410):
                    return {}
                raise
            nodes = answer.get("nodes", {})
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

    async def patiently(self, call: Callable[[], Awaitable[T]], *, most: int | None = None) -> T:
        """Repeat the call until Elasticsearch answers. A 404 raises `GenerationGone`, and the last
        of `most` failures is raised."""
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
                if attempt == most:
                    raise
            else:
                self._outage.over()
                return answer


async def mget(client: AsyncElasticsearch, index: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What Elasticsearch answers for each id, also of a request that is too large for one. Raises
    the driver's errors."""
    try:
        answer = await client.mget(index=index, ids=list(ids), preference=PREFERENCE)
    except ApiError as error:
        if error.status_code != 413 or len(ids) < 2:
            raise
        return await _in_halves(lambda half: mget(client, index, half), ids)
    documents: list[dict[str, Any]] = answer["docs"]
    return documents


async def alias_faults(client: AsyncElasticsearch, alias: str) -> list[str]:
    """What is wrong with the alias, whose `*` stands for any number; nothing if it is nowhere.
    Raises the driver's errors."""
    try:
        answer = await client.indices.get_alias(name=alias)
    except NotFoundError:
        return []
    ours = re.compile(re.escape(alias).replace(r"\*", "[0-9]+"))
    indexes: dict[str, dict[str, Mapping[str, Any]]] = {}
    for index, about in answer.body.items():
        for name, options in about["aliases"].items():
            if ours.fullmatch(name):
                indexes.setdefault(name, {})[index] = options
    return [fault for name, found in sorted(indexes.items()) if (fault := _fault(name, found))]


def _fault(alias: str, indexes: Mapping[str, Mapping[str, Any]]) -> str | None:
    if len(indexes) > 1:
        return f"the alias {alias} has {len(indexes)} indexes: {', '.join(sorted(indexes))}"
    for name, options in indexes.items():
        if options:
            return f"the alias {alias} of {name} has options: {', '.join(sorted(options))}"
    return None


async def refresh(client: AsyncElasticsearch, index: str) -> None:
    """Have searches see all that is written, on each copy that is there.

    Raises the driver's errors, and `ProjectionUnavailable` if a copy was lost meanwhile: another
    one may be searched in its place.
    """
    shards = (await client.indices.refresh(index=index))["_shards"]
    if shards["failed"]:
        raise ProjectionUnavailable(f"{index}: {shards['failed']} copies could not be refreshed")


async def require_sound_alias(client: AsyncElasticsearch, alias: str) -> None:
    """Raise `ProjectionBroken` if the alias leads to several indexes or has options, or
    `ProjectionUnavailable` without an answer."""
    try:
        faults = await alias_faults(client, alias)
    except (ApiError, TransportError) as error:
        raise ProjectionUnavailable(brief(error)) from error
    if faults:
        raise ProjectionBroken(faults[0])


async def require_readable(client: AsyncElasticsearch, alias: str) -> None:
    """Raise `ProjectionBroken` with the reason unless a document can be read by its id,
    `ProjectionMissing` if no index is there, or `ProjectionUnavailable` without an answer.

    It asks for one document: a count is a scan for some servers, and readiness asks often.
    """
    try:
        await client.get(index=alias, id=NOBODY, preference=PREFERENCE)
    except NotFoundError as error:
        if isinstance(error.body, dict) and error.body.get("found") is False:
            return
        raise ProjectionMissing(f"there is no {alias}") from error
    except ApiError as error:
        if error.status_code == 401:
            raise ProjectionUnavailable(brief(error)) from error
        raise ProjectionBroken(f"{alias}: {_whole_reason(error)}") from error
    except TransportError as error:
        raise ProjectionUnavailable(brief(error)) from error


def _whole_reason(error: ApiError) -> str:
    found = error.body.get("error", error.body) if isinstance(error.body, dict) else error.body
    return f"{error.error}: {_reason(found)}"


def _sort(
    alias: str, answers: Mapping[int, Any], outcome: WriteOutcome
) -> tuple[list[int], list[int], str]:
    """Note conflicts in the outcome; return what was refused as it is, what was not to be done now,
    and why.

    `answers` are by position in the list of items. Raises `GenerationGone`.
    """
    doubted: list[int] = []
    busy: list[int] = []
    why = ""
    for i, answer in answers.items():
        status, error = answer["status"], answer.get("error")
        if status < 300:
            continue
        if status == 409:
            outcome.conflicts.append(i)
        elif status == 404:  # the generation's alias is gone
            raise GenerationGone(f"{alias}: {_reason(error)}")
        elif status in _REFUSED:
            doubted.append(i)
            why = f"{alias}: {status} {_cause(error)}"
        else:  # 429, 5xx, a read-only index: the document is not at fault
            busy.append(i)
            why = f"{alias}: {status} {_cause(error)}"
    return doubted, busy, why


def _check_index(alias: str, answers: Sequence[Mapping[str, Any]], index: str | None) -> None:
    """Raise `GenerationGone` if the alias led to another index: what was written is not there."""
    written = next((each["_index"] for each in answers if each["status"] < 300), index)
    if index is not None and written != index:
        raise GenerationGone(f"{alias} leads to {written}")


async def _in_halves(
    send: Callable[[Sequence[S]], Awaitable[list[T]]], items: Sequence[S]
) -> list[T]:
    """The answers to what is too large for one request, one half after the other."""
    middle = len(items) // 2
    return await send(items[:middle]) + await send(items[middle:])


def _chunks(items: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """The items in order, each time up to `most` bytes or a single one."""
    begin = size = 0
    for at, item in enumerate(items):
        if size + len(item) > most and at > begin:
            yield items[begin:at]
            begin, size = at, 0
        size += len(item) + 1
    if begin < len(items):
        yield items[begin:]


def _cause(error: Any) -> str:
    """The reason without what it quotes of a document: readiness shows it to everybody."""
    return _QUOTED.split(_reason(error), maxsplit=1)[0]


def _reason(error: Any) -> str:
    return str(error.get("reason", error))[:300] if isinstance(error, dict) else str(error)[:300]
