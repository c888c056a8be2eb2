"""What the bank relies on in the configurations that JetStream keeps, where anybody can change it.

Pure: each function yields what differs, from the `config` of a stream or of a consumer.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

Config = Mapping[str, Any]

_KEPT: Final = {"retention": "limits", "storage": "file", "sealed": False}
_LOG: Final = {
    **_KEPT,
    "allow_atomic": True,  # a batch lands whole or not at all
    "max_msgs_per_subject": -1,  # or older events of a partition go
    "subject_transform": None,  # or an event comes to another partition
    "mirror": None,
    "sources": None,
}
_BUCKET: Final = {**_KEPT, "max_age": 0}
_CONSUMER: Final = {"ack_policy": "all", "priority_policy": "pinned_client", "max_deliver": -1}


def log_faults(config: Config) -> Iterator[str]:
    """The stream that has all events."""
    return _differences(config, _LOG)


def bucket_faults(config: Config) -> Iterator[str]:
    """A key-value bucket."""
    return _differences(config, _BUCKET)


def consumer_faults(config: Config) -> Iterator[str]:
    """The durable consumer of a partition."""
    return _differences(config, _CONSUMER)


def _differences(config: Config, wanted: Config) -> Iterator[str]:
    """JetStream leaves out what is false or empty."""
    for option, right in wanted.items():
        there = config.get(option)
        if there != right and (there or right):
            yield f"{option} is {there!r}, not {right!r}"


def joined(name: str, faults: Iterable[str]) -> str:
    """The faults of one stream or consumer in a line; "" if it has none."""
    found = ", ".join(faults)
    return f"{name}: {found}" if found else ""
