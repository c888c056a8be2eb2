"""How one would do without the bank: each message is folded and indexed by itself.

    python -m benchmarks.rivals faststream | faststream-pull | faust

Each reads a stream of its own, of its own name. FastStream does so with a subscriber as its
documentation begins with, which handles one message after another, and with a pull subscriber,
which handles all it has fetched at once. Faust goes by the bank's bridge but without batches.
All know the documents from memory, and write each with its version.
"""

import asyncio
import sys
import time
from typing import Any, Final

import orjson

from benchmarks.worker import tell
from pipeline.banking.balance import BALANCE
from pipeline.model.events import Event
from pipeline.model.projection import Document
from pipeline.search.client import connect
from pipeline.support.settings import Settings, load

FASTSTREAM: Final = "faststream"
PULL: Final = "faststream-pull"
FAUST: Final = "faust"
FETCHED: Final = 100
"""Messages that the pull subscriber asks for, and handles, at once."""


class Indexer:
    """Folds an event and awaits an index call for it."""

    def __init__(self, url: str, index: str) -> None:
        self._client, self._index = connect(url), index
        self._known: dict[str, Document] = {}

    async def one(self, event: Event) -> None:
        began, account = time.monotonic(), event["account_id"]
        document = self._known[account] = BALANCE.fold(self._known.get(account), event)
        # A 409 says that a newer document is there: handled at once, messages overtake each other.
        await self._client.options(ignore_status=409).index(
            index=self._index,
            id=account,
            document=document,
            version=document["version"],
            version_type="external",
        )
        tell(began, 1, 1)


def faststream(settings: Settings, name: str = FASTSTREAM, *, pull: bool = False) -> None:
    """A subscriber that is given each message as a dict."""
    from faststream import FastStream
    from faststream.nats import JStream, NatsBroker, PullSub

    indexer = Indexer(settings.elasticsearch_url, name)
    broker = NatsBroker(settings.nats_url, logger=None)

    @broker.subscriber(
        f"{name}.*",
        stream=JStream(name, declare=False),
        durable=name,
        pull_sub=PullSub(batch_size=FETCHED) if pull else False,
    )
    async def index(event: dict[str, Any]) -> None:
        await indexer.one(event)  # type: ignore[arg-type]

    asyncio.run(FastStream(broker).run())


def faust(settings: Settings) -> None:
    """An agent that is given each message as bytes."""
    import faust as framework

    app = framework.App(
        FAUST,
        broker=settings.nats_url,
        store="memory://",
        topic_partitions=settings.partitions,
        web_enabled=False,
        datadir=settings.data_dir / FAUST,
    )
    indexer = Indexer(settings.elasticsearch_url, FAUST)

    @app.agent(app.topic(FAUST, value_type=bytes, value_serializer="raw"))
    async def index(stream: Any) -> None:
        async for data in stream:
            await indexer.one(orjson.loads(data))

    framework.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    {
        FASTSTREAM: faststream,
        PULL: lambda settings: faststream(settings, PULL, pull=True),
        FAUST: faust,
    }[sys.argv[1]](load())
