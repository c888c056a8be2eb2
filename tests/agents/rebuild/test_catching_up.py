"""A generation is not shown before its partitions have applied what the stream has."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.agents.rebuild.build import OnlineBuild
from pipeline.messaging import JetStream, ensure_partitioned
from pipeline.tables.checkpoints import PositionLost
from tests.names import STREAM, subject


@pytest.fixture
async def js(js: JetStream) -> JetStream:
    await ensure_partitioned(js, STREAM, 2)
    return js


def _part(js: JetStream) -> tuple[OnlineBuild, Any]:
    """A partition's part in a rebuild, and the partition's processor, which has applied nothing."""
    owned = SimpleNamespace(position=0, building=object())
    processor = SimpleNamespace(partition=0, owned=owned)
    part = OnlineBuild.__new__(OnlineBuild)
    part._context, part._processor = cast(Any, SimpleNamespace(js=js)), cast(Any, processor)
    part._owned, part._building = cast(Any, owned), cast(Any, owned.building)
    return part, processor


async def test_it_waits_for_what_the_stream_has(js: JetStream) -> None:
    last = [await js.publish(subject(0), b"{}") for _ in range(3)][-1]
    await js.publish(subject(1), b"{}")
    part, processor = _part(js)
    waiting = asyncio.create_task(part._catch_up())
    for position in (last - 2, last - 1):
        processor.owned.position = position
        assert (await asyncio.wait({waiting}, timeout=0.3))[1] == {waiting}
    processor.owned.position = last
    await asyncio.wait_for(waiting, 5)


async def test_it_waits_for_nothing_where_the_stream_has_nothing(js: JetStream) -> None:
    await js.publish(subject(1), b"{}")
    part, _ = _part(js)
    await asyncio.wait_for(part._catch_up(), 5)


async def test_it_ends_when_the_partition_is_acquired_again(js: JetStream) -> None:
    await js.publish(subject(0), b"{}")
    part, processor = _part(js)
    waiting = asyncio.create_task(part._catch_up())
    await asyncio.sleep(0)
    processor.owned = None
    with pytest.raises(PositionLost):
        await asyncio.wait_for(waiting, 5)
