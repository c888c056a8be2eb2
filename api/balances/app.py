"""Wires the balance service; no other module of it does."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from aiohttp import web

from api import account_events
from api.balances import (
    account_commands,
    activity,
    asyncapi,
    event_schemas,
    feed,
    groups,
    history,
    neighbours,
    operators,
    overview,
    parked,
    partitions,
    projection_reads,
    queries,
    rebuild_events,
    rebuilds,
    statements,
    subscriptions,
    timeline,
    traces,
    ui,
)
from api.balances.balance_reader import BalanceReader
from api.balances.connections import CONNECTIONS, Connections
from api.balances.monotonic import MonotonicReads
from api.balances.projected import PROJECTIONS
from api.balances.rebuild_metrics import RebuildFigures
from api.balances.routes import INDEX, PAGES, READS, routes
from api.balances.shared_searches import SharedSearches
from api.balances.statement_reader import StatementReader
from api.balances.waiting import WAITING, VersionWaits
from api.balances.whoami import routes as whoami
from api.http.cursors import UnknownCursor
from api.http.problems import Problem, unavailable
from api.server import application
from pipeline.banking.balance import BALANCE
from pipeline.eventstore import StoreUnavailable
from pipeline.model.names import BANK
from pipeline.search import ProjectionBroken, ProjectionUnavailable
from pipeline.support.cancellation import close_all
from pipeline.support.metrics import Metrics
from pipeline.support.readiness import NotReady
from pipeline.support.self_report import process_name
from pipeline.support.settings import Settings, require_projections

_ROUTES: Final = [
    *overview.routes,
    *activity.routes,
    *parked.routes,
    *partitions.routes,
    *rebuilds.routes,
    *rebuild_events.routes,
    *projection_reads.routes,
    *feed.routes,
    *neighbours.routes,
    *subscriptions.routes,
    *traces.routes,
    *timeline.routes,
    *operators.routes,
    *event_schemas.routes,
    *asyncapi.routes,
    *ui.routes,
]
"""Of every application; the bank has others besides."""


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it.

    Raises `SettingsError` where the application has no projection.
    """
    require_projections(settings)
    index, entries = BalanceReader(settings.elasticsearch), StatementReader(settings.elasticsearch)
    connections = Connections(settings)
    kept = settings.kept
    snapshots = partitions.PartitionSnapshots(connections, settings, kept)
    rebuild_lists = rebuilds.Rebuilds(connections, settings)
    watchers = rebuild_events.RebuildWatchers(rebuild_lists)
    waiting = VersionWaits(index, BALANCE, connections)
    read_all = projection_reads.ProjectionReads(settings, connections)
    read_groups = groups.GroupReads(settings)
    happened = timeline.Timeline(connections.connected, process_name())
    overviews = overview.Overviews(
        connections,
        settings,
        snapshots,
        lambda: max(index.answered, entries.answered, read_all.answered),
        happened.note,
    )
    activities = activity.Activities(connections)
    feeds = feed.Feeds(connections, settings.names.application)
    forwarder = account_commands.CommandForwarder(settings)
    ways = traces.Traces(connections, snapshots)
    schemas = event_schemas.EventSchemas(settings.chosen)

    def reads() -> MonotonicReads:
        return MonotonicReads(lambda account_id: connections.store.head(account_id))

    pages = SharedSearches(partial(queries.page, index, reads()))

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        ways.start()
        async with happened.kept(), overviews.watched():
            yield
        # First what reads, then the connections that it reads from.
        readers = (
            *(overviews, activities, ways, snapshots, watchers, waiting, pages),
            *(read_all, read_groups, feeds, forwarder),
        )
        await close_all(*(each.close for each in (*readers, connections, entries, index)))

    metrics = Metrics("balances")
    metrics.register(snapshots, before_scrape=snapshots.refresh)
    figures = RebuildFigures(rebuild_lists, [each.name for each in kept])
    metrics.register(figures, before_scrape=figures.refresh)
    every_route = [*_ROUTES, *groups.routes_of(kept), *whoami]
    if settings.names == BANK:
        every_route += [
            *statements.routes,
            account_events.route(lambda: connections.store),
            *history.routes,
            *account_commands.routes(),
            *routes,
        ]

    async def elasticsearch() -> None:
        try:
            await read_all.ping()
        except ProjectionBroken as error:
            raise NotReady(str(error)) from error

    checks = {"elasticsearch": elasticsearch}
    app = application(settings, every_route, checks, _translate, metrics)
    app[projection_reads.READS] = read_all
    app[groups.GROUPS] = read_groups
    app[INDEX], app[READS], app[PAGES] = index, reads(), pages
    app[statements.STATEMENTS], app[statements.READS] = entries, reads()
    app[history.HISTORY] = history.AccountHistory(connections)
    app[CONNECTIONS] = connections
    app[account_commands.FORWARDER] = forwarder
    app[WAITING] = waiting
    app[PROJECTIONS] = kept
    app[feed.FEEDS] = feeds
    app[traces.TRACES] = ways
    app[timeline.TIMELINE] = happened
    app[operators.SETTINGS] = settings
    app[event_schemas.SCHEMAS] = schemas
    app[asyncapi.STREAM_CONTRACT] = asyncapi.StreamContract(settings.chosen, schemas)
    app[overview.OVERVIEWS] = overviews
    app[activity.ACTIVITIES] = activities
    app[partitions.SNAPSHOTS] = snapshots
    app[ui.FILES] = ui.read(names=settings.names)
    app[rebuilds.REBUILDS] = rebuild_lists
    app[rebuild_events.WATCHING] = watchers
    app[parked.PARKED] = parked.ParkedAccounts(connections)
    app.cleanup_ctx.append(lifetime)
    return app


def _translate(error: Exception) -> Problem | None:
    match error:
        case queries.DocumentNotFound():
            return Problem(
                404,
                "account-not-found",
                f"The projection has no account {error}. One just opened takes a moment to appear.",
            )
        case UnknownCursor():
            fault = {"parameter": "starting_after", "detail": str(error)}
            return Problem(400, "invalid-input", f"starting_after: {error}.", errors=[fault])
        case StoreUnavailable():
            return unavailable("store-unavailable", "The event store does not answer right now.")
        case ProjectionUnavailable():
            return unavailable("projection-unavailable", "The projection can't be read right now.")
    return None
