"""The Faust consumer over JetStream: passes deliveries to Faust, and acks what is done.

The data flows through this module from the feeds to Faust's callback, and from Faust's set of acked
offsets to JetStream. Faust's own fetch loop, gaps, seeks and pauses are made for Kafka's contiguous
offsets and are not used: they lose or withhold what was fetched when a partition moves.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from faust import Service
from faust.types import TP, ConsumerMessage
from nats.aio.msg import Msg

from pipeline.bridge import private
from pipeline.bridge.batch import Batch, BatchSchema
from pipeline.bridge.commit_pace import CommitPace
from pipeline.bridge.faust_consumer import FaustConsumer
from pipeline.bridge.feed import Feed, Trouble
from pipeline.bridge.moves import Moves
from pipeline.bridge.options import options_of
from pipeline.bridge.outstanding import Ack
from pipeline.bridge.producer import key_of
from pipeline.support.ticks import to_tick

log = logging.getLogger(__name__)

NEW_LEADER = "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED"
"""Published with the consumer's stream and name when a server of a cluster begins to lead it."""
PLAIN_IN_FLIGHT = 500
_MOST_OUT = 10_000
"""Deliveries of a partition, done or not, that have no ack: while a commit waits, reading does."""
_RETRY_SECONDS = 0.3
_LOOK_SECONDS = 0.25
"""An ack that Faust's streams make by themselves does not wake the loop."""
_QUIET_SECONDS = 1.0
"""Nor does a lost request."""


class Consumer(FaustConsumer):
    """Reads the partitions that its assignment gives it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options_of(self.app)
        self.feeds: dict[TP, Feed] = {}
        self.topics: list[str] = []
        self.subscribed, self._woken = asyncio.Event(), asyncio.Event()
        self._delivering = asyncio.Event()  # set while something is out
        self._news: dict[TP, None] = {}
        """Partitions that may have something to deliver, in order."""
        self._delivered = False
        """Whether anything was since the last look of the commit timer."""
        self.moves = Moves(self)
        self._batched: set[str] = set()
        self._repairs: dict[TP, asyncio.Task[None]] = {}
        self.transport.consumer = self
        private.resubscribe_soon(self.app)

    # -- life

    async def on_start(self) -> None:
        """Connect and start the assignment, for which a task of the app would start too late."""
        await self.transport.connect()
        await self.transport.js.nc.subscribe(f"{NEW_LEADER}.>", cb=self._on_new_leader)
        self.add_future(self._assignment())
        self.add_future(self._look_at_all())
        self.add_future(self._watch_for_late_acks())

    async def on_stop(self) -> None:
        await self.moves.leave()

    def assignment(self) -> set[TP]:
        return set(self.moves.assigned)

    async def wait_empty(self) -> None:
        """Faust calls this to drain when the app stops."""
        await self.moves.leave()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Create the topics once; a later call only adds new agents to Faust's index."""
        if self.subscribed.is_set():
            private.reindex(self.app, self.moves.assigned)
            return
        self.topics = list(topics)
        for topic in self.topics:
            await self.transport.create_topic(topic, self.app.conf.topic_partitions)
        self._batched = private.topics_with_schema(self.app, BatchSchema)
        self.subscribed.set()

    async def _assignment(self) -> None:
        await self.subscribed.wait()
        partitions = max((self.transport.partitions_of(topic) for topic in self.topics), default=1)
        await self.options.assignment.run(self.moves.assign, partitions)

    # -- from the feeds to Faust

    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self.should_stop or fetcher.should_stop):
            await self._woken.wait()
            self._woken.clear()
            news, self._news = self._news, {}
            for tp in news:
                if (feed := self.feeds.get(tp)) is not None:
                    for message in self._next(tp, feed):
                        self._delivered = True
                        await self.callback(message)
                    await feed.request()

    def _next(self, tp: TP, feed: Feed) -> Iterable[ConsumerMessage]:
        """What the partition's agents have room for."""
        while feed.buffer and self._has_room(tp, feed):
            previous = feed.delivered
            self._delivering.set()
            if tp.topic in self._batched:
                found = feed.deliver(self.options.batch)
                messages = [(each.position.stream, each.data) for each in found]
                value = Batch(tp.partition, previous, messages, feed, feed.seeks, feed.label)
                yield self._message(tp, found[-1].position, None, value)
            else:
                (one,) = feed.deliver(1)
                yield self._message(tp, one.position, key_of(one.headers), one.data)

    def _has_room(self, tp: TP, feed: Feed) -> bool:
        # Faust's index has what is done and has no ack yet, so the difference is what is not done.
        not_done = len(feed.out) - len(self._acked_index[tp])
        most = self.options.in_flight if tp.topic in self._batched else PLAIN_IN_FLIGHT
        return not_done < most and len(feed.out) < _MOST_OUT

    def _message(self, tp: TP, position: Any, key: bytes | None, value: Any) -> ConsumerMessage:
        return private.message(self.app, tp, position.stream, position.seconds, key, value)

    def ack(self, message: ConsumerMessage) -> bool:
        """Faust is done with a delivery: the next one of its partition may go out."""
        if isinstance(message.value, Batch) and message.value.stale:
            return False  # it is delivered again, perhaps up to the same sequence
        done: bool = super().ack(message)
        self._wake_for_rest(message.tp)
        return done

    def _wake(self, tp: TP) -> None:
        self._news[tp] = None
        self._woken.set()

    def _wake_for_rest(self, tp: TP) -> None:
        """There is room again for what has waited for it."""
        feed = self.feeds.get(tp)
        if feed is not None and feed.buffer:
            self._wake(tp)

    async def _look_at_all(self) -> None:
        while not self.should_stop:
            with suppress(TimeoutError):
                async with asyncio.timeout(to_tick(_QUIET_SECONDS)):
                    await self._delivering.wait()
                    await self.sleep(_LOOK_SECONDS)
            self._news.update(dict.fromkeys(self.feeds))
            self._woken.set()

    # -- from what is done to JetStream

    @Service.task
    async def _commit_handler(self) -> None:
        """Commit while something is out, at the pace of `CommitPace`."""
        pace = CommitPace()
        while not self.should_stop:
            await self._delivering.wait()
            await self.sleep(self.commit_interval)
            delivered, self._delivered = self._delivered, False
            if pace.due(delivered):
                await self.commit()
            if not any(feed.out for feed in self.feeds.values()):
                self._delivering.clear()
                pace.rest()

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Ack, by partition, the longest run of deliveries that are all done.

        `before_commit` runs first, so that a checkpoint is written before the ack, and so is what
        it writes into tables.
        """
        ready = {
            tp: ack
            for tp, feed in list(self.feeds.items())
            if topics is None or tp in topics or tp.topic in topics
            if (ack := feed.out.ready(self._acked_index[tp])) is not None
        }
        if not ready:
            return False
        try:
            allowed = await self.options.before_commit({tp: ack.last for tp, ack in ready.items()})
        except Exception:
            log.exception("before_commit failed; the commit waits")
            return False
        if not await self.app.producer.flush():
            return False
        for tp in allowed:
            await self._ack(tp, ready[tp])
        return True

    async def _ack(self, tp: TP, ack: Ack) -> None:
        feed = self.feeds.get(tp)
        if (
            feed is None or feed.out.counting != ack.counting
        ):  # a restart: it would move the new floor
            return
        try:
            await feed.ack(ack)
        except Exception as error:
            log.warning(
                "The ack of %s up to %d is lost and will be sent again: %r", tp, ack.last, error
            )
            return
        if feed.out.counting == ack.counting:
            while feed.out and feed.out[0].last <= ack.last:
                feed.out.popleft()
            private.forget_acked(self, tp, ack.last)
            self._wake_for_rest(tp)

    # -- for the app

    async def seek_after(self, tp: TP, sequence: int | None, *, label: int | None = None) -> int:
        """Read on after `sequence`, or after the ack floor; what is out becomes stale."""
        feed = self.feeds[tp]
        private.forget_partition(self, tp)
        position = await feed.seek(sequence, label=label)
        private.forget_partition(self, tp)
        return position

    async def keeps(self, tp: TP) -> bool:
        """Whether a partition that another worker reads is still ours; else release it."""
        assignment = self.options.assignment
        ours = await assignment.owns(tp.partition)
        if not ours:
            assignment.lost(tp.partition)
        return ours

    async def open_feed(self, tp: TP) -> None:
        """Make the partition's feed, and read from its ack floor unless the app will seek."""
        feed = Feed(self.transport.js, tp, self.options, partial(self._wake, tp), self._trouble)
        self.feeds[tp] = feed
        if not self.options.waits_for_seek:
            await self._until_it_works(tp, lambda: feed.seek(None))

    # -- trouble

    def reconnected(self) -> None:
        """The connection is back: each feed has lost its request and its inbox."""
        for tp in self.feeds:
            self._trouble(tp, Trouble(pinned_elsewhere=False))

    async def _on_new_leader(self, message: Msg) -> None:
        """The leader before had our request and the pin: both are lost, and perhaps acks are."""
        for tp, feed in self.feeds.items():
            if feed.open and message.subject == f"{NEW_LEADER}.{feed.stream}.{feed.durable.name}":
                self._trouble(tp, Trouble(pinned_elsewhere=True))

    async def _watch_for_late_acks(self) -> None:
        """An ack or RESET that an earlier owner sent may come late, and then ours don't count."""
        while not self.should_stop:
            await self.sleep(self.options.lease_seconds)
            with suppress(Exception):  # the next round tries again
                await self._look_for_late_acks()

    async def _look_for_late_acks(self) -> None:
        streams = {feed.stream for feed in self.feeds.values()}
        states = {stream: await self.transport.js.state(stream) for stream in streams}
        for tp, feed in list(self.feeds.items()):
            with suppress(Exception):
                if feed.open and await feed.is_out_of_step(states.get(feed.stream)):
                    log.info("An ack of an earlier owner of %s-%d came late: restarting", *tp)
                    self._trouble(tp, Trouble(pinned_elsewhere=False))

    def _trouble(self, tp: TP, trouble: Trouble) -> None:
        running = self._repairs.get(tp)
        if running is None or running.done():
            self._repairs[tp] = asyncio.ensure_future(self._repair(tp, trouble))

    async def _repair(self, tp: TP, trouble: Trouble) -> None:
        """Restart the feed, unless its partition is lost.

        A 423 is no proof that it is: a restarted server forgets its pins. So the lease decides, and
        also where the restart would take the pin from whoever has it.
        """
        feed = self.feeds.get(tp)
        unpins = trouble.pinned_elsewhere or (feed is not None and not feed.pinned)
        if unpins and not await self.keeps(tp):
            return
        if feed is not None and feed.started:
            await self._until_it_works(tp, partial(self._resume, feed, trouble))

    async def _resume(self, feed: Feed, trouble: Trouble) -> None:
        seeks = feed.seeks
        try:
            await feed.resume(unpin=trouble.pinned_elsewhere)
        finally:
            if feed.seeks != seeks:
                # The stream was created again, and its sequences with it: what was done of the old
                # ones would be taken for done of the new ones.
                private.forget_partition(self, feed.tp)

    async def _until_it_works(self, tp: TP, attempt: Callable[[], Awaitable[Any]]) -> None:
        """Repeat the attempt, as long as this consumer has the partition."""
        since, failed = time.monotonic(), False
        while tp in self.feeds and not self.should_stop:
            try:
                await attempt()
                break
            except Exception as error:
                if not failed:
                    failed = True
                    log.warning("Cannot read %s-%d yet: %r", tp.topic, tp.partition, error)
                await asyncio.sleep(_RETRY_SECONDS)
        if failed:
            waited = time.monotonic() - since
            log.info("Reading %s-%d again after %.1f s", tp.topic, tp.partition, waited)
