"""The stored timeline: one happening is told once, whoever saw it; what is no line is skipped."""

from typing import Any

import orjson

from pipeline.messaging import JetStream
from pipeline.operations import timeline
from pipeline.operations.status.happenings import Change, Happening
from pipeline.operations.timeline import Line, merged


def line(by: str, second: int, what: str, *, first: bool = False, **more: Any) -> Line:
    at = f"2026-11-27T14:{second // 60:02}:{second % 60:02}.000Z"
    told = Happening(at, "server", "bad", "nats", what, **more)
    return Line(f"{by} {at} {what}", by, Change(told, [("server", "nats", False)], first))


def told(*lines: Line) -> list[tuple[str, str]]:
    return [(each.at[14:19], each.what) for each in merged(lines)]


def test_what_two_services_saw_is_told_once() -> None:
    assert told(
        line("b", 21, "down"),
        line("b", 40, "up"),
        line("a", 10, "down"),
        line("a", 33, "up"),
        line("b", 90, "down"),
        line("a", 89, "down"),
    ) == [("00:10", "down"), ("00:33", "up"), ("01:29", "down")]


def test_what_one_service_saw_twice_is_told_twice() -> None:
    lines = line("a", 1, "down"), line("a", 2, "up"), line("a", 3, "down"), line("b", 8, "down")
    assert told(*lines) == [("00:01", "down"), ("00:02", "up"), ("00:03", "down")]


def test_what_was_told_before_is_nothing_new_at_the_first_look_of_another() -> None:
    down, still = line("a", 1, "down"), line("b", 900, "down", first=True)
    assert told(down, still) == [("00:01", "down")]
    assert told(still) == [("15:00", "down")]
    assert told(down, line("a", 60, "up"), still)[-1] == ("15:00", "down")


async def test_lines_are_kept_and_what_is_none_is_skipped(js: JetStream) -> None:
    await timeline.ensure(js)
    kept = line("a", 1, "down", detail="no answer", seconds=1.5, accounts=["x"])
    wrong = {"id": "1", "by": "a", "change": {"happening": {"at": "noon"}}}
    naive = orjson.dumps(kept).replace(b"00.000Z", b"00.000").replace(b"01.000Z", b"01.000")
    for data in (b"{", orjson.dumps(wrong), naive, orjson.dumps({"id": "x" * 20_000})):
        await js.publish("happenings.server", data)
    sequence = await timeline.write(js, kept)
    assert await timeline.write(js, kept) == sequence  # sent twice, because an answer was lost
    assert [each async for each in timeline.read(js)] == [(sequence, kept)]
    assert [each async for each in timeline.read(js, sequence)] == []
