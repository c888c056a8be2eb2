"""The audit log: who made, used and revoked keys, was refused, and acted on the pipeline.

A JetStream stream with a subject for each action and a JSON object for each line. Its limits are
for each action, so a flood of refused keys displaces no other line.
"""

import asyncio
import getpass
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NotRequired, get_args

import orjson
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict
from ulid import ULID

from pipeline.messaging import JetStream, StoredMessage, stream_reader
from pipeline.messaging.answers import ELECTION, FAILURES, until_answered
from pipeline.messaging.streams import ensure_by_subject
from pipeline.support import correlation
from pipeline.support.logs import moment
from pipeline.support.retry import brief
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)

Action = Literal[
    "key-created",
    "key-used",
    "key-refused",
    "key-revoked",
    "rebuild-started",
    "rebuild-cancelled",
    "repartition",
    "replicas",
    "repair",
    "parked-retry",
    "parked-drop",
    "seal",
    "forget",
]
ACTIONS: Final[tuple[str, ...]] = get_args(Action)


class AuditActor(TypedDict):
    """Who did it. `role` is that of the key, `cli` with the `user` of the operating system, or
    `anonymous` if the service asks for no key. The `key` of a refused request is what it claimed,
    with the role `unverified`, unless the key is valid and only its role or account was refused."""

    role: str
    key: NotRequired[str]
    user: NotRequired[str]


class AuditLine(TypedDict):
    """One action. `time` is RFC 3339 in UTC; `outcome` is `done`, or why it was not. `omitted`:
    refused requests before this one that have no line of their own."""

    id: str
    time: str
    actor: AuditActor
    action: Action
    target: str
    outcome: str
    service: str
    correlation_id: NotRequired[str]
    omitted: NotRequired[int]


_LINE: Final = TypeAdapter(AuditLine)
ANONYMOUS: Final[AuditActor] = {"role": "anonymous"}


def new_line(
    action: Action,
    actor: AuditActor,
    *,
    service: str,
    target: str = "",
    outcome: str = "done",
    omitted: int = 0,
) -> AuditLine:
    """A line of now, with the correlation id of the current request."""
    line: AuditLine = {
        "id": str(ULID()),
        "time": moment(time.time()),
        "actor": actor,
        "action": action,
        "target": target,
        "outcome": outcome,
        "service": service,
    }
    if current := correlation.current():
        line["correlation_id"] = current
    if omitted:
        line["omitted"] = omitted
    return line


async def ensure(js: JetStream, settings: Settings) -> None:
    """Create the stream, or give it the limits of the settings."""
    await ensure_by_subject(
        js,
        js.names.audit,
        max_msgs_per_subject=settings.audit_max_lines,
        max_age_hours=settings.audit_max_age_days * 24,
    )


async def write(js: JetStream, line: AuditLine) -> None:
    """Store a line, once however often it is sent within two minutes; raises `answers.FAILURES`."""
    subject = f"{js.names.audit}.{line['action']}"
    await js.publish(subject, orjson.dumps(line), {"Nats-Msg-Id": line["id"]})


async def read(
    js: JetStream, since: datetime | None = None, *, after: int = 0
) -> AsyncIterator[tuple[int, AuditLine]]:
    """The lines there are, each with its sequence, in the order in which they were stored: those
    after the sequence `after`, or from the time `since` on. What is no line is skipped."""
    if await js.state(js.names.audit) is None:
        return
    timed = since is not None and not after
    begin = {"start_time": since.isoformat()} if timed and since else {"seq": after + 1}
    async for found in stream_reader.messages(js, js.names.audit, begin):
        for message in found:
            if (line := _line(message.data)) is not None:
                yield message.sequence, line


async def newest(js: JetStream, limit: int, actions: Sequence[str] = ACTIONS) -> list[AuditLine]:
    """The last `limit` lines of each of these actions, at most 1000, the newest first."""
    if (state := await js.state(js.names.audit)) is None:
        return []
    each = (_newest(js, f"{js.names.audit}.{action}", state.last, limit) for action in actions)
    found = [message for messages in await asyncio.gather(*each) for message in messages]
    found.sort(key=lambda message: message.sequence, reverse=True)
    return [line for message in found if (line := _line(message.data)) is not None]


async def _newest(js: JetStream, subject: str, last: int, limit: int) -> list[StoredMessage]:
    stream, of_subject = js.names.audit, {"next_by_subj": subject}

    async def many(sequence: int) -> bool:
        """Whether the subject has more than enough messages from that sequence on."""
        found = await stream_reader.read(js, stream, {**of_subject, "seq": sequence, "batch": 1})
        return bool(found) and int((found[0].headers or {})["Nats-Num-Pending"]) + 1 > limit

    begin, end = 1, last
    if await many(begin):
        while begin < end:  # at `begin` there are too many, after `end` there are not
            middle = (begin + end + 1) // 2
            begin, end = (middle, end) if await many(middle) else (begin, middle - 1)
        begin += 1
    return await stream_reader.read(js, stream, {**of_subject, "seq": begin, "batch": limit})


def _line(data: bytes) -> AuditLine | None:
    """The line in a message; None if it is none: anybody with access may have published it."""
    try:
        return _LINE.validate_json(data)
    except ValidationError:
        return None


async def record(
    js: JetStream, settings: Settings, action: Action, target: str, outcome: str = "done"
) -> bool:
    """Write a line of this process' user; False, and a warning, if that fails: the action is
    done."""
    line = new_line(action, command_line(), service="cli", target=target, outcome=outcome)

    async def stored() -> None:
        await ensure(js, settings)
        await write(js, line)

    try:
        await until_answered(stored, ELECTION)
    except FAILURES as error:
        log.warning("the audit log has no line of this %s: %s", action, brief(error))
        return False
    return True


def command_line() -> AuditActor:
    """The user of the operating system, or its number: a container may have no name for it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"role": "cli", "user": user}


def matches(line: AuditLine, actor: str, actions: tuple[str, ...]) -> bool:
    """Whether a line is of one of the actions and of the actor: a key's id, a user or a role."""
    who: dict[str, Any] = {**line["actor"]}
    return (not actions or line["action"] in actions) and (not actor or actor in who.values())
