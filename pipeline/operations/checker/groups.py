"""Does each group equal the sum of its shares, and is every share in one group?

Groups and shares are read as of one moment, so traffic changes nothing between them. That each
share is the fold of its events is judged by itself, as invariant 4: both together say that a group
is the sum over the events of its accounts. Memory grows neither with the groups nor the shares.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.model.groups import Groups
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import grouped
from pipeline.operations.checker.report import Faults, Report, verdict
from pipeline.search import ProjectionMissing
from pipeline.search.group_reader import Group, GroupReader, whole
from pipeline.support.bucket_sums import BUCKETS, Sums, fingerprint
from pipeline.support.settings import Settings

_TIMEOUT: Final = 60.0
_PAGE: Final = 10_000
"""Groups of a search; each search adds up the shares of all groups after these."""
_NAMED: Final = 16
"""Of so many buckets that differ the groups are compared one by one."""


async def with_groups(settings: Settings, report: Report) -> Report:
    """The report, with the verdict on all groups if there are any; raises
    `ProjectionUnavailable`."""
    declared, found = list(grouped(settings.kept)), _Compared()
    if not declared:
        return report
    for projection, groups in declared:
        reader = GroupReader(settings.elasticsearch, projection, groups, _TIMEOUT)
        try:
            async with reader.at_one_moment() as still:
                await found.compare(still, projection, groups)
        except ProjectionMissing:
            continue  # its first worker has not come yet
        finally:
            await reader.close()
    figure = f"{found.groups:,} groups of {found.shares:,} documents"
    verdicts = [*report.verdicts, verdict(20, found.faults, figure)]
    return replace(report, verdicts=tuple(sorted(verdicts, key=lambda each: each.number)))


@dataclass(slots=True)
class _Compared:
    """What was read, and what differs."""

    groups: int = 0
    shares: int = 0
    faults: Faults = field(default_factory=Faults)

    async def compare(self, still: GroupReader, projection: Projection, groups: Groups) -> None:
        """Compare all groups with all shares, in sums of hashes."""
        sums = [Sums() for _ in ("shares", *groups.sums)]
        async for share in _shares(still, projection, groups):
            self.shares += 1
            _enter(sums, share, 1)
        async for group in _groups(still, projection, groups):
            self.groups += 1
            _enter(sums, group, -1)
        uneven = sorted(frozenset().union(*(each.uneven() for each in sums)))
        if uneven:
            await self._name(still, projection, groups, uneven[:_NAMED])
        if (more := len(uneven) - _NAMED) > 0:
            self.faults.add(f"{groups.name}: groups in {more} more of {BUCKETS} parts differ")

    async def _name(
        self, still: GroupReader, projection: Projection, groups: Groups, uneven: list[int]
    ) -> None:
        """Add a fault for each group in these buckets that differs."""
        added: dict[str, Group] = {}
        async for share in _shares(still, projection, groups):
            if fingerprint(share.key) % BUCKETS in uneven:
                added[share.key] = _plus(added.get(share.key), share)
        async for group in _groups(still, projection, groups):
            if fingerprint(group.key) % BUCKETS in uneven:
                wanted = added.pop(group.key, None)
                if group != wanted:
                    what = f"shown {_told(group)}, there are {_told(wanted)}"
                    self.faults.add(f"{groups.name} {group.key}: {what}")
        for key, wanted in added.items():
            self.faults.add(f"{groups.name} {key}: not shown, there are {_told(wanted)}")


async def _shares(
    still: GroupReader, projection: Projection, groups: Groups
) -> AsyncIterator[Group]:
    """Each share as a group of its own."""
    async for page in still.shares():
        for each in page:
            key = groups.key(each.get(groups.field), projection.mapping)
            if key is not None:
                yield Group(key, 1, {name: whole(each, name) for name in groups.sums})


async def _groups(
    still: GroupReader, projection: Projection, groups: Groups
) -> AsyncIterator[Group]:
    """All groups. The embedded server has some besides, with keys too long to group by."""
    after: str | None = None
    more = True
    while more:
        page, more = await still.page(after=after, limit=_PAGE)
        for each in page:
            after = each.key
            if groups.key(each.key, projection.mapping) is not None:
                yield each


def _enter(sums: list[Sums], group: Group, sign: int) -> None:
    mark = fingerprint(group.key)
    for each, amount in zip(sums, _amounts(group), strict=True):
        each.add(mark, sign * amount)


def _amounts(group: Group) -> Iterator[int]:
    yield group.shares
    yield from group.sums.values()


def _plus(before: Group | None, share: Group) -> Group:
    if before is None:
        return share
    sums = {name: before.sums[name] + amount for name, amount in share.sums.items()}
    return Group(share.key, before.shares + share.shares, sums)


def _told(group: Group | None) -> str:
    return f"{group.shares} shares with {dict(group.sums)}" if group else "none"
