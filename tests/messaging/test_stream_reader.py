"""Single messages of a stream, read by `DIRECT.GET`."""

from pipeline.messaging import JetStream
from pipeline.messaging.stream_reader import read


async def test_a_message_that_was_published_with_a_status_is_a_message(js: JetStream) -> None:
    """The server answers with a status where it has no message, but a publisher may set one too."""
    await js.context.add_stream(name="odd", subjects=["odd"], allow_direct=True)
    for status in ("404", "204", "408", "no number"):
        await js.context.publish("odd", status.encode(), headers={"Status": status})
    found = await read(js, "odd", {"seq": 1, "next_by_subj": "odd", "batch": 10})
    assert [message.data for message in found] == [b"404", b"204", b"408", b"no number"]
    assert [message.sequence for message in found] == [1, 2, 3, 4]
    assert await read(js, "odd", {"seq": 5, "next_by_subj": "odd", "batch": 10}) == []
