"""The one place that wires the balance service together."""

from collections.abc import AsyncIterator

from aiohttp import web

from api.balances import parked, partitions, rebuild_events, rebuilds, statements
from api.balances.connections import CONNECTIONS, Connections
from api.balances.projected import PROJECTIONS
from api.balances.queries import DocumentNotFound
from api.balances.routes import INDEX, routes
from api.balances.waiting import WAITING, Waiting
from api.problems import Problem, unavailable
from api.server import application
from pipeline.eventstore import StoreUnavailable
from pipeline.index import Index, ProjectionUnavailable, UnknownCursor
from pipeline.index.statements import Statements
from pipeline.metrics import Metrics
from pipeline.projections import projections
from pipeline.settings import Settings


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it."""
    index, entries = Index(settings.elasticsearch_url), Statements(settings.elasticsearch_url)
    connections = Connections(settings)
    kept = projections(settings.projections)
    snapshots = partitions.Snapshots(connections, settings, kept)
    rebuilding = rebuilds.Rebuilds(connections, settings)
    watching = rebuild_events.Watching(rebuilding)
    waiting = Waiting(index, connections)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        yield
        await snapshots.close()
        await watching.close()
        await waiting.close()
        await connections.close()
        await entries.close()
        await index.close()

    metrics = Metrics("balances")
    metrics.register(snapshots, before_scrape=snapshots.refresh)
    every_route = [
        *parked.routes,
        *partitions.routes,
        *rebuilds.routes,
        *rebuild_events.routes,
        *statements.routes,
        *routes,
    ]
    checks = {"elasticsearch": index.ping}
    app = application(settings, every_route, checks, _translate, metrics)
    app[INDEX] = index
    app[statements.STATEMENTS] = entries
    app[CONNECTIONS] = connections
    app[WAITING] = waiting
    app[PROJECTIONS] = kept
    app[partitions.SNAPSHOTS] = snapshots
    app[rebuilds.REBUILDS] = rebuilding
    app[rebuild_events.WATCHING] = watching
    app[parked.PARKED] = parked.ParkedAccounts(connections, settings)
    app.cleanup_ctx.append(lifetime)
    return app


def _translate(error: Exception) -> Problem | None:
    match error:
        case DocumentNotFound():
            return Problem(
                404,
                "account-not-found",
                f"The projection has no account {error}. One just opened takes a moment to appear.",
            )
        case UnknownCursor():
            fault = {"parameter": "starting_after", "detail": "No document of that account"}
            return Problem(
                400, "invalid-input", "starting_after: No document of that account.", errors=[fault]
            )
        case StoreUnavailable():
            return unavailable("store-unavailable", "The event store does not answer right now.")
        case ProjectionUnavailable():
            return unavailable("projection-unavailable", "The projection can't be read right now.")
    return None
