"""The forwarder: any number of processes, of which one leads and the others stand by.

A Redis lease decides which one tries to lead; the log itself rejects a stale one (`leader.py`).
"""

import asyncio
import logging
import os
import socket

from ulid import ULID

from pipeline.coordination.leases import FORWARDER, Lease, leading
from pipeline.eventstore import EventStore
from pipeline.forwarder.leader import Leader
from pipeline.forwarder.metrics import ForwarderMetrics, forwarder_checks, forwarder_metrics
from pipeline.forwarder.stream_publisher import PublisherCounters, StandDown
from pipeline.messaging import JetStream
from pipeline.messaging.instances import answering
from pipeline.support.cancellation import close_all, raise_if_cancelled
from pipeline.support.metrics_server import Keys, exposed
from pipeline.support.retry import Outage
from pipeline.support.self_report import SelfReport
from pipeline.support.settings import Settings

log = logging.getLogger(__name__)


async def run(
    settings: Settings,
    *,
    stop: asyncio.Event | None = None,
    counters: PublisherCounters | None = None,
    keys: Keys | None = None,
) -> None:
    """Forward until `stop` is set or the task is cancelled. `keys` guard its metrics.

    Raises `ServerTooOld`, and `CannotListen` for its metrics.
    """
    counters = counters or PublisherCounters()
    work = asyncio.create_task(_exposed(settings, ForwarderMetrics(counters), keys))
    waiting = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        waiting.cancel()
        await asyncio.wait({work, waiting})
        log.info("Stopped: %s", counters)


async def _exposed(settings: Settings, metrics: ForwarderMetrics, keys: Keys | None) -> None:
    shown, checks = forwarder_metrics(metrics), forwarder_checks(metrics)
    report = SelfReport(shown.role, metrics.work, checks)
    async with exposed(settings, shown, checks, keys), answering(settings, report):
        await _run(settings, metrics)


async def _run(settings: Settings, metrics: ForwarderMetrics) -> None:
    owner = f"{socket.gethostname()}-{os.getpid()}-{ULID()}"
    js = await JetStream.patiently(settings.nats, f"forwarder {owner}")
    store = EventStore(settings.mongodb, settings.mongodb_database)
    lease = Lease(settings.redis, FORWARDER, owner, settings.lease_seconds)
    metrics.js, metrics.store, metrics.lease = js, store, lease
    outage, attempt = Outage(log, "Forwarding", most=1.0), 0
    try:
        while True:
            raise_if_cancelled()
            leader = Leader(settings, js, store, metrics.counters, outage)
            try:
                async with leading(lease) as lost:
                    await leader.lead(lost)
            except StandDown as reason:
                log.warning("Standing down: %s", reason)
            except Exception as error:
                # Whatever failed, what landed is in the log: begin again at its end.
                log.debug("Forwarding failed", exc_info=True)
                attempt = 0 if leader.working else attempt + 1
                await outage.pause(error, attempt)
    finally:
        await close_all(lease.close, store.close, js.close)
