"""Messages that come again and in another order: put into the log by a stranger's hand."""

import base64
from typing import Any, Final

from nats.aio.client import Client

from tests.torture.checker.end import MARK
from tests.torture.faults.base import Fault, Maker
from tests.torture.nodes import api

_STREAM: Final = "balance"
_MOST: Final = 60


class Again(Fault):
    """Events that are in the log already are published once more, as they were."""

    async def begin(self) -> None:
        async with self.world.nats() as client:
            for message in self.order(await self._newest(client)):
                data = base64.b64decode(message.get("data", ""))
                await client.publish(message["subject"], data, headers={MARK: "1"})
            await client.flush()

    def order(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return messages

    async def _newest(self, client: Client) -> list[dict[str, Any]]:
        """Events alone: a token or a number of partitions is the forwarder's to write."""
        state = (await api(client, f"STREAM.INFO.{_STREAM}"))["state"]
        first = max(state["first_seq"], state["last_seq"] - _MOST)
        found = []
        for sequence in range(first, state["last_seq"] + 1):
            answer = await api(client, f"STREAM.MSG.GET.{_STREAM}", {"seq": sequence})
            if b"account_id" in base64.b64decode(answer["message"].get("data", "")):
                found.append(answer["message"])
        return found


class OutOfOrder(Again):
    """They come again shuffled: old versions after new ones."""

    def order(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.chance.sample(messages, len(messages))


DELIVERY: Final[dict[str, Maker]] = {"duplicates": Again, "reordering": OutOfOrder}
