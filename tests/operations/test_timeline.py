"""The stored timeline: who has not read all before stores nothing; what is no line is skipped."""

import orjson
import pytest

from pipeline.messaging import JetStream, WrongLastSequence
from pipeline.operations import timeline
from pipeline.operations.status.happenings import Change, Happening
from pipeline.operations.timeline import Line


async def test_lines_are_kept_and_what_is_none_is_skipped(js: JetStream) -> None:
    await timeline.ensure(js)
    at = "2026-11-27T14:00:01.000Z"
    told = Happening(at, "server", "bad", "nats", "down", "no answer", 1.5, ["x"])
    kept = Line("1", "a", Change(told, [("server", "nats", False)]))
    wrong = {"id": "1", "by": "a", "change": {"happening": {"at": "noon"}}}
    whole = orjson.dumps(kept)
    bad = [
        *(b"{", orjson.dumps(wrong), orjson.dumps({"id": "x" * 20_000})),
        whole.replace(b"01.000Z", b"01.000"),
        whole.replace(b'["server","nats",false]', b'["parked","balance","x"]'),
        whole.replace(b'["server","nats",false]', b'["parked","balance",true]'),
        whole.replace(b'["server","nats",false]', b""),
    ]
    for data in bad:
        assert data != whole
        await js.publish("happenings.server", data)
    number = len(bad)
    with pytest.raises(WrongLastSequence):
        await timeline.write(js, kept, number - 1)
    assert await timeline.write(js, kept, number) == number + 1
    found = [each async for each in timeline.read(js, 0, number + 1)]
    assert found == [*((each + 1, None) for each in range(number)), (number + 1, kept)]
    assert [each async for each in timeline.read(js, number + 1, number + 1)] == []
    await js.api("STREAM.PURGE.happenings")
    assert [each async for each in timeline.read(js, 0, number + 1)] == [(number + 1, None)]
