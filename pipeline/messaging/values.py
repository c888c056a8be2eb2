"""Headers of messages, messages, the state of a stream, and errors by code."""

from dataclasses import dataclass, field
from typing import Any, Final

TOKEN_HEADER: Final = "Bank-Resume-Token"
BATCH_HEADER: Final = "Nats-Batch-Id"
MESSAGE_ID: Final = "Nats-Msg-Id"
RESYNC: Final = "resync"
MARKER: Final = b'{"kind":"resync"}'
PARTITIONS_KEY: Final = "partitions"

_WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
_DUPLICATE_IN_BATCH: Final = 10201
_TOO_MANY_REPLICAS: Final = frozenset({10005, 10074})
"""No suitable servers in the cluster; a server without a cluster."""
_STORAGE_FULL: Final = frozenset({10002, 10023, 10028, 10047, 10077})
"""Of the account, the server, its memory, its disk, and of a stream that discards new messages."""


class JetStreamError(Exception):
    """The server answered with an error; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code, self.description = code, description


class Refused(JetStreamError):
    """The server refuses the request as it is: sent again, it is refused again."""


class WrongLastSequence(Refused):
    """The stream's last sequence is not the expected one: another publisher has written."""


class DuplicateMessage(JetStreamError):
    """A message id of the batch was stored within the duplicate window."""


class StorageFull(JetStreamError):
    """Server, account or stream is at a limit: nothing is stored until there is room."""


class TooManyReplicas(JetStreamError):
    """The cluster has not so many servers that could keep a stream, or there is no cluster."""


class ServerTooOld(Exception):
    """Atomic batches, pinned consumers and consumer reset need nats-server 2.14."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish."""

    subject: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the stream has it."""

    subject: str
    data: bytes
    headers: dict[str, str]
    sequence: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """The state of a stream. `created` differs from that of a later stream of the same name."""

    created: str
    first: int
    last: int
    messages: int


def checked(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply of a JetStream call. An error in it is raised, as the class of its code."""
    error = reply.get("error")
    if not error:
        return reply
    code, text = int(error.get("err_code", error.get("code", 0))), str(error.get("description"))
    if code in _WRONG_LAST_SEQUENCE:
        raise WrongLastSequence(code, text)
    if code == _DUPLICATE_IN_BATCH:
        raise DuplicateMessage(code, text)
    if code in _STORAGE_FULL:
        raise StorageFull(code, text)
    if code in _TOO_MANY_REPLICAS:
        raise TooManyReplicas(code, text)
    if 400 <= error.get("code", 0) < 500:
        raise Refused(code, text)
    raise JetStreamError(code, text)
