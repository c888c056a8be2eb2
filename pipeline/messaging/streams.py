"""The kinds of streams: of a Faust app's topics, of its tables' changelogs, of lines by kind."""

from typing import Any, Final

from pipeline.messaging.client import JetStream
from pipeline.messaging.values import PARTITIONS_KEY

_EXPIRING: Final[dict[str, Any]] = {"allow_msg_ttl": True}


async def ensure_partitioned(
    js: JetStream, name: str, partitions: int, *, max_age_hours: float = 0
) -> int:
    """Create a stream with subjects `{name}.{p}`; return the number of partitions in force.

    The number is kept in the stream's metadata; `partitions` is for a new stream only.
    """
    config = await js.ensure_stream(
        name,
        [f"{name}.*"],
        max_age_hours=max_age_hours,
        metadata={PARTITIONS_KEY: str(partitions)},
        allow_atomic=True,
    )
    return int(config.get("metadata", {}).get(PARTITIONS_KEY, partitions))


async def ensure_changelog(js: JetStream, name: str) -> None:
    """Create a stream with subjects `{name}.{p}.{key}`, which keeps the last message of each.

    Its messages may have a time to live; a stream that was created without is updated.
    """
    config = await js.ensure_stream(name, [f"{name}.*.>"], max_msgs_per_subject=1, **_EXPIRING)
    if not config.get("allow_msg_ttl"):
        await js.api(f"STREAM.UPDATE.{name}", {**config, **_EXPIRING})


async def ensure_by_subject(
    js: JetStream,
    name: str,
    *,
    max_msgs_per_subject: int,
    max_age_hours: float = 0,
) -> None:
    """Create a stream with subjects `{name}.{kind}`, and limits for each kind; a stream that has
    other limits gets these."""
    config = await js.ensure_stream(
        name,
        [f"{name}.*"],
        max_age_hours=max_age_hours,
        max_msgs_per_subject=max_msgs_per_subject,
    )
    limits = {
        "max_msgs_per_subject": max_msgs_per_subject,
        "max_age": int(max_age_hours * 3600 * 1e9),
    }
    if any(config.get(each) != limit for each, limit in limits.items()):
        await js.api(f"STREAM.UPDATE.{name}", {**config, **limits})
