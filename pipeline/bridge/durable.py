"""The durable consumer of a partition at the server: acks all below, pinned to one client."""

from typing import Any, NamedTuple

from faust.types import TP

from pipeline.messaging import JetStream, JetStreamError

GROUP = "owner"
_NOT_FOUND = 10014
_ACK_WAIT_NS = 3600 * 10**9  # long: nothing is delivered again out of order


class ConsumerPosition(NamedTuple):
    """A delivery's number, which begins at 1 after each RESET, and the sequence in the stream."""

    number: int
    sequence: int


class Durable:
    """`{topic}-{partition}` of a stream, filtered to the partition's subject."""

    def __init__(self, js: JetStream, tp: TP, stream: str, lease_seconds: float) -> None:
        self._js, self._lease_seconds = js, lease_seconds
        self._stream, self._subject = stream, f"{stream}.{tp.partition}"
        self.name = f"{tp.topic}-{tp.partition}"

    @property
    def next_subject(self) -> str:
        """Where pull requests go."""
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"

    async def ensure(self) -> None:
        """Create the consumer unless it exists."""
        try:
            await self._api("INFO")
        except JetStreamError as error:
            if error.code != _NOT_FOUND:
                raise
            await self._create()

    async def unpin(self) -> None:
        """Take the pin from the client that has it: the next one that requests messages gets it."""
        await self._api("UNPIN", {"group": GROUP})

    async def reset(self, sequence: int | None) -> int:
        """Deliver again after `sequence`, which also sets the ack floor, or after the floor.

        Returns the floor.
        """
        reply = await self._api("RESET", {"seq": sequence + 1} if sequence is not None else None)
        return int(reply["ack_floor"]["stream_seq"])

    async def progress(self) -> tuple[ConsumerPosition, ConsumerPosition]:
        """Up to where the server has delivered, and up to where all is acked: the floor."""
        info = await self._api("INFO")
        delivered, floor = (
            ConsumerPosition(info[what]["consumer_seq"], info[what]["stream_seq"])
            for what in ("delivered", "ack_floor")
        )
        return delivered, floor

    async def _create(self) -> None:
        # One ack counts for all below, so the server's own report shows the true lag. The pin keeps
        # a second reader out; a silent one loses it after the lease. Without `num_replicas` the
        # consumer has as many as its stream.
        config = {
            "durable_name": self.name,
            "name": self.name,
            "ack_policy": "all",
            "filter_subject": self._subject,
            "priority_groups": [GROUP],
            "priority_policy": "pinned_client",
            "priority_timeout": int(self._lease_seconds * 1e9),
            "max_ack_pending": -1,
            "ack_wait": _ACK_WAIT_NS,
            "max_waiting": 64,
        }
        body = {"stream_name": self._stream, "config": config}
        await self._js.api(f"CONSUMER.CREATE.{self._stream}.{self.name}.{self._subject}", body)

    async def _api(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self._js.api(f"CONSUMER.{verb}.{self._stream}.{self.name}", body)
