"""The projection that a request is about: `?projection=`, by default the first one."""

from collections.abc import Sequence
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from api.http.inputs import Input, query
from api.http.problems import Problem
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import UnknownProjection, chosen

PROJECTIONS: Final = web.AppKey("projections", Sequence[Projection])


class ProjectionQuery(Input):
    """The parameter of whatever every projection has one of."""

    projection: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """The name of the projection; by default the first one."""


def projection_of(request: web.Request) -> Projection:
    """The projection of the request; problem 404 `projection-not-found`."""
    name = query(request, ProjectionQuery).projection
    return request.app[PROJECTIONS][0] if name is None else kept(request, name)


def kept(request: web.Request, name: str) -> Projection:
    """The projection of that name; problem 404 `projection-not-found`."""
    all_kept: Sequence[Projection] = request.app[PROJECTIONS]
    try:
        return chosen(name, all_kept)
    except UnknownProjection as error:
        raise no_projection(name) from error


def no_projection(name: str) -> Problem:
    return Problem(404, "projection-not-found", f"There is no projection {name}.")
