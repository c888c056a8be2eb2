"""The one place that wires the balance service together."""

from collections.abc import AsyncIterator

from aiohttp import web

from api.balances.queries import DocumentNotFound
from api.balances.routes import INDEX, routes
from api.problems import Problem, unavailable
from api.server import application
from pipeline.index import Index, ProjectionUnavailable, UnknownCursor
from pipeline.settings import Settings


def create_app(settings: Settings) -> web.Application:
    """The service on these settings. To be called in the event loop that will run it."""
    index = Index(settings.elasticsearch_url)

    async def lifetime(_: web.Application) -> AsyncIterator[None]:
        yield
        await index.close()

    app = application(routes, {"elasticsearch": index.ping}, _translate)
    app[INDEX] = index
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
        case ProjectionUnavailable():
            return unavailable("projection-unavailable", "The projection can't be read right now.")
    return None
