"""What JetStream keeps can be changed by anybody; `bank verify` and the forwarder tell."""

from typing import Any

import pytest
from faust.types import TP

from pipeline.bridge.durable import Durable
from pipeline.coordination.partitioning import ensure_log
from pipeline.forwarder.metrics import ForwarderMetrics
from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket
from pipeline.operations.checker.guards import stream_guards
from pipeline.support.readiness import missing
from pipeline.support.settings import Settings
from tests.names import STREAM

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "atomic": ({"allow_atomic": False}, "allow_atomic is None, not True"),
    "retention": ({"retention": "interest"}, "retention is 'interest', not 'limits'"),
    "one each": ({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1, not -1"),
    "moved": (
        {"subject_transform": {"src": "balance.0", "dest": "balance.1"}},
        "subject_transform",
    ),
    "sealed": ({"sealed": True}, "sealed is True, not False"),
}


@pytest.mark.parametrize("case", CHANGES)
async def test_a_changed_stream_is_told(settings: Settings, js: JetStream, case: str) -> None:
    change, why = CHANGES[case]
    assert await stream_guards(js, settings) == []  # nothing is there yet
    await ensure_log(js, settings)
    collector = ForwarderMetrics(js=js)
    assert await stream_guards(js, settings) == []
    assert await missing({"nats": collector.nats}) == {}
    config = await js.config(STREAM)
    assert config is not None
    await js.api(f"STREAM.UPDATE.{STREAM}", {**config, **change})
    (fault,) = await stream_guards(js, settings)
    assert fault.startswith(f"JetStream: stream {STREAM}: ")
    assert why in fault
    assert why in (await missing({"nats": collector.nats}))["nats"]


async def test_a_consumer_and_a_bucket_that_are_not_as_made_are_told(
    settings: Settings, js: JetStream
) -> None:
    await ensure_log(js, settings)
    await Durable(js, TP(STREAM, 0), STREAM, 2.0).ensure()
    await Bucket(js, "partitions").ensure()
    assert await stream_guards(js, settings) == []

    async def consumer(name: str, **config: Any) -> None:
        config = {"durable_name": name, "name": name, "ack_policy": "explicit", **config}
        body = {"stream_name": STREAM, "config": config}
        await js.api(f"CONSUMER.CREATE.{STREAM}.{name}", body)

    await consumer("mine")  # somebody's own, to look at the stream
    await consumer("balance-1", filter_subject="balance.1", max_deliver=3)
    bucket = await js.config("KV_partitions")
    assert bucket is not None
    await js.api("STREAM.UPDATE.KV_partitions", {**bucket, "max_age": 600 * 10**9})
    faults = await stream_guards(js, settings)
    assert len(faults) == 2
    assert faults[0].startswith(
        "JetStream: consumer balance-1: ack_policy is 'explicit', not 'all'"
    )
    assert "priority_policy is None, not 'pinned_client'" in faults[0]
    assert "max_deliver is 3, not -1" in faults[0]
    assert faults[1] == "JetStream: bucket partitions: max_age is 600000000000, not 0"
