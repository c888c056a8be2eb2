"""Generations of the projection: indexes `balance-{n}`, each with an alias `balance-g{n}` of its
own for writers; the live one also has the alias `balance` for readers.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from elasticsearch import ApiError, BadRequestError, NotFoundError, TransportError

from pipeline.index.client import Elastic
from pipeline.outage import Outage, brief
from pipeline.projection import MAPPING, VERSION

log = logging.getLogger(__name__)

LIVE: Final = "balance"
_NAME: Final = re.compile(r"balance-(\d+)")
_POLL: Final = 0.25


@dataclass(frozen=True, slots=True)
class Generation:
    """One index of the projection. The uuid tells it from one of the same name made later;
    `projection` is the version of the fold that it was made for, 0 where nothing tells."""

    number: int
    uuid: str
    projection: int = field(default=VERSION, compare=False)

    @property
    def index(self) -> str:
        return f"balance-{self.number}"

    @property
    def alias(self) -> str:
        return f"balance-g{self.number}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """An index that is there, with the aliases it has."""

    name: str
    uuid: str
    aliases: frozenset[str]
    projection: int

    @property
    def generation(self) -> Generation | None:
        match = _NAME.fullmatch(self.name)
        return Generation(int(match[1]), self.uuid, self.projection) if match else None


class Generations:
    """Finds the live generation, and makes one where there is none."""

    def __init__(
        self, elastic: Elastic, *, shards: int = 1, replicas: int = 0, grace_seconds: float = 5.0
    ) -> None:
        self._elastic, self._client = elastic, elastic.client
        self._shards, self._replicas, self._grace = shards, replicas, grace_seconds
        self._had_one = False
        self._missing_since: float | None = None
        self._lock = asyncio.Lock()
        self._outage = Outage(log, "the generations")

    async def live(self) -> Generation | None:
        """The generation that readers see now, or None. Raises the driver's errors."""
        return _live(await self._survey())

    async def ensure_live(self) -> Generation:
        """The live generation, made or adopted if need be; waits while Elasticsearch is down.

        An index that vanished under this process is made anew only after the grace, so that a
        person can make `balance` by hand first; that one is adopted.
        """
        async with self._lock:
            attempt = 0
            while True:
                try:
                    generation = await self._step()
                except (ApiError, TransportError) as error:
                    await self._outage.pause(error, attempt)
                    attempt += 1
                    continue
                self._outage.over()
                if generation is not None:
                    self._had_one, self._missing_since = True, None
                    return generation
                await asyncio.sleep(_POLL)

    async def bearing(self, alias: str) -> Generation | None:
        """The newest generation with that alias. Raises the driver's errors."""
        return _newest(await self._survey(), alias)

    async def unread(self, generation: Generation) -> bool:
        """Whether that very index is there, and readers do not see it."""
        return any(
            each.generation == generation and not _claims(each) for each in await self._survey()
        )

    async def create_next(self, alias: str, *, refresh: str) -> None:
        """Make a generation above all there are, with that alias, too."""
        await self.create(_highest(await self._survey()) + 1, alias, refresh=refresh)

    async def create(self, number: int, *more: str, refresh: str = "1s") -> None:
        """Make generation `number`, empty, unless it is there; `more` aliases beside its own."""
        aliases: dict[str, Any] = {alias: {} for alias in (f"balance-g{number}", *more)}
        made = await self._elastic.make_index(
            f"balance-{number}",
            aliases,
            MAPPING,
            {
                "number_of_shards": self._shards,
                "number_of_replicas": self._replicas,
                "refresh_interval": refresh,
            },
        )
        if made:
            log.info("made the index balance-%d", number)

    async def _step(self) -> Generation | None:
        """Look, and do what brings a live generation nearer; None: look again."""
        seen = await self._survey()
        strangers = [each for each in seen if each.generation is None and _claims(each)]
        generation = _live(seen)
        if strangers:
            await self._adopt(strangers, generation or await self._next(seen))
            return None
        if generation is None:
            if not self._in_grace():
                await self.create(_highest(seen) + 1, LIVE)
            return None
        actions = _repairs(seen, generation)
        if actions:
            await self._client.indices.update_aliases(actions=actions)
            return None
        return generation

    def _in_grace(self) -> bool:
        if not self._had_one:
            return False
        if self._missing_since is None:
            self._missing_since = time.monotonic()
            log.warning("the index is gone; it is made anew in %g s", self._grace)
        return time.monotonic() - self._missing_since < self._grace

    async def _next(self, seen: list[_Seen]) -> Generation:
        number = _highest(seen) + 1
        await self.create(number)
        return Generation(number, "")

    async def _adopt(self, strangers: list[_Seen], generation: Generation) -> None:
        """Put the generation in the place of indexes that somebody made by hand."""
        actions: list[dict[str, Any]] = [
            {"remove_index": {"index": each.name}}
            if each.name == LIVE
            else {"remove": {"index": each.name, "alias": LIVE, "must_exist": True}}
            for each in strangers
        ]
        actions.append({"add": {"index": generation.index, "alias": LIVE}})
        try:
            await self._client.indices.update_aliases(actions=actions)
        except (BadRequestError, NotFoundError) as error:  # another worker was quicker
            log.debug("not adopted: %s", brief(error))
            await asyncio.sleep(_POLL)
        else:
            names = ", ".join(each.name for each in strangers)
            log.warning("%s was made by hand: %s takes its place", names, generation.index)

    async def _survey(self) -> list[_Seen]:
        answer = await self._client.indices.get(
            index=f"{LIVE},{LIVE}-*",
            ignore_unavailable=True,
            allow_no_indices=True,
            filter_path="*.aliases,*.settings.index.uuid,*.mappings._meta",
        )
        return [
            _Seen(
                name,
                about["settings"]["index"]["uuid"],
                frozenset(about.get("aliases", {})),
                _projection(about.get("mappings", {})),
            )
            for name, about in answer.body.items()
        ]


def _projection(mappings: Mapping[str, Any]) -> int:
    found = mappings.get("_meta", {}).get("projection")
    return found if isinstance(found, int) else 0


def _claims(seen: _Seen) -> bool:
    """Whether readers of `balance` meet this index."""
    return seen.name == LIVE or LIVE in seen.aliases


def _live(seen: list[_Seen]) -> Generation | None:
    return _newest(seen, LIVE)


def _newest(seen: list[_Seen], alias: str) -> Generation | None:
    generations = [each.generation for each in seen if alias in each.aliases]
    return max((g for g in generations if g), key=lambda g: g.number, default=None)


def _highest(seen: list[_Seen]) -> int:
    return max((each.generation.number for each in seen if each.generation), default=0)


def _repairs(seen: list[_Seen], generation: Generation) -> list[dict[str, Any]]:
    """Alias actions that leave the generation as the only live one, with its own alias."""
    actions: list[dict[str, Any]] = []
    for each in seen:
        if each.name == generation.index:
            if generation.alias not in each.aliases:
                actions.append({"add": {"index": each.name, "alias": generation.alias}})
        elif LIVE in each.aliases:
            actions.append({"remove": {"index": each.name, "alias": LIVE, "must_exist": True}})
    return actions
