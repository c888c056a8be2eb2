"""The client of Elasticsearch as all projections of a worker share it, with its group commits."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson
from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout

from pipeline.search.group_commit import Answers, GroupCommit
from pipeline.search.values import PREFERENCE
from pipeline.support.cancellation import close_all

_JSON: Final = "application/json"
_ACCEPTED: Final = {"accept": _JSON}
_LINES: Final = {"accept": _JSON, "content-type": "application/x-ndjson"}
_ONE: Final = {"accept": _JSON, "content-type": _JSON}
_ERRORS: Final = "items.*.status,items.*.error.type,items.*.error.reason"
_MGET: Final = f"/_mget?preference={PREFERENCE}"
_BULK: Final = f"/_bulk?require_alias=true&filter_path={_ERRORS},"
_NODES: Final = "/_nodes/jvm?filter_path=nodes.*.jvm.start_time_in_millis"
_LISTED: Final = (
    "?ignore_unavailable=true&allow_no_indices=true"
    "&expand_wildcards=all"  # without it a closed index looks deleted
    "&filter_path=*.aliases,*.settings.index.uuid,*.settings.index.blocks,*.mappings._meta"
)
_GATHER_SECONDS: Final = 0.002
"""Within about this time partitions and projections have what was published together."""


class SharedClient:
    """What waits at the same time, of any projection and generation, is sent as one request.

    Raises the driver's errors, as a request of that caller alone would.
    """

    def __init__(self, client: AsyncElasticsearch) -> None:
        self.client = client
        # Versions and stamps make it harmless to write documents twice.
        self._documents = GroupCommit(self._write_documents, again=_always, gather=_GATHER_SECONDS)
        self._conditional = GroupCommit(self._compare_and_set, again=_too_large)
        self._reads = GroupCommit(self._read, again=_failed_early)
        self._looks = GroupCommit(self._look, again=_never)
        self._listings = GroupCommit(self._list, again=_failed_early)

    async def close(self) -> None:
        groups = (self._documents, self._conditional, self._reads, self._looks, self._listings)
        await close_all(*(group.close for group in groups), self.client.close)

    async def bulk(self, lines: bytes, items: int, *, alone: bool = False) -> Answers:
        """Send so many items, whose lines all end with a newline; each answer has `status`, and
        `_index` or `error`. They may be sent twice, of which the last answer is returned."""
        if alone:
            return await self._write_documents([lines])
        return await self._documents.add(lines, items)

    async def compare_and_set(self, lines: bytes, items: int) -> Answers:
        """The same, sent once, with `_seq_no` and `_primary_term` of what was written."""
        return await self._conditional.add(lines, items)

    async def mget(self, alias: str, ids: Sequence[str]) -> Answers:
        """What Elasticsearch answers for each id."""
        if not ids:
            return []
        wanted = orjson.dumps([{"_index": alias, "_id": each} for each in ids])
        return await self._reads.add(wanted[1:-1], len(ids))

    async def boots(self) -> dict[str, Any]:
        """The nodes with the time of their start, by a look that begins after this call."""
        (answer,) = await self._looks.add(b"")
        return answer

    async def indexes(self, names: str) -> dict[str, Any]:
        """The indexes that have one of the names, as their own or as an alias, `*` standing for
        anything: their aliases, uuid, blocks and `_meta`."""
        (answer,) = await self._listings.add(names.encode())
        return answer

    # ---------------------------------------------------------------- joined requests

    async def _write_documents(self, lines: Sequence[bytes]) -> Answers:
        return await self._bulk("PUT", "items.*._index", lines)

    async def _compare_and_set(self, lines: Sequence[bytes]) -> Answers:
        # No PUT: aiohttp repeats that by itself on a connection that the server has closed.
        return await self._bulk("POST", "items.*._seq_no,items.*._primary_term", lines)

    async def _bulk(self, method: str, wanted: str, lines: Sequence[bytes]) -> Answers:
        body = b"".join(lines)
        answer = await self._request(method, _BULK + wanted, "bulk", _LINES, body)
        return [item for entry in answer["items"] for item in entry.values()]

    async def _read(self, wanted: Sequence[bytes]) -> Answers:
        body = b'{"docs":[' + b",".join(wanted) + b"]}"
        documents: Answers = (await self._request("POST", _MGET, "mget", _ONE, body))["docs"]
        return documents

    async def _look(self, asked: Sequence[bytes]) -> Answers:
        answer = await self._request("GET", _NODES, "nodes.info")
        return [answer] * len(asked)

    async def _list(self, asked: Sequence[bytes]) -> Answers:
        names = [each.decode() for each in asked]
        path = f"/{','.join(dict.fromkeys(names))}{_LISTED}"
        answer = await self._request("GET", path, "indices.get")
        return [_named(each.split(","), answer) for each in names]

    async def _request(
        self,
        method: str,
        path: str,
        name: str,
        headers: Mapping[str, str] = _ACCEPTED,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        """As the driver's method of that name does, for less than half of what it costs."""
        answer = await self.client.perform_request(
            method, path, headers=headers, body=body, endpoint_id=name
        )
        return dict(answer.body)


def _named(patterns: Sequence[str], indexes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        index: about
        for index, about in indexes.items()
        if any(
            fnmatchcase(name, pattern)
            for name in (index, *about.get("aliases", {}))
            for pattern in patterns
        )
    }


def _always(_: Exception) -> bool:
    return True


def _never(_: Exception) -> bool:
    return False


def _failed_early(error: Exception) -> bool:
    """Whether a reader can wait for a second try: after a time-out he has waited long enough."""
    return not isinstance(error, ConnectionTimeout)


def _too_large(error: Exception) -> bool:
    """Whether nothing can have been written: a server or proxy looks at the size first."""
    return isinstance(error, ApiError) and error.status_code == 413
