"""The pages of problem types: what each one means, and what to do about it."""

from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from api.http.html import Content, code, link, page, phrase, prose, table, tag
from api.http.problem_types import PROBLEM_TYPES, ProblemType
from api.openapi.document import Route


def problems_page() -> web.Response:
    """All types of problems."""
    rows = [
        [link(each.path, each.title), str(each.status), phrase(each.meaning)]
        for each in PROBLEM_TYPES.values()
    ]
    return page("Problems", table("Problems", ["Problem", "Status", "Meaning"], rows))


def problem_page(problem: ProblemType, routes: Sequence[Route]) -> web.Response:
    """What a problem means, what to do, and which routes answer it."""
    names = [tag("li", link(f"/docs#{each.name}", f"{each.method} {each.path}")) for each in routes]
    if problem.anywhere:
        where: Content = tag("p", "Any path may answer it.")
    else:
        where = tag("ul", names) if names else tag("p", "No route of this service answers it.")
    return page(
        problem.title,
        tag("p", code(problem.path), f" · {problem.status} {HTTPStatus(problem.status).phrase}"),
        tag("h2", "What it means"),
        prose(problem.meaning),
        tag("h2", "What to do"),
        prose(problem.remedy),
        tag("h2", "Where"),
        where,
        tag("p", link("/problems", "All problems"), " · ", link("/docs", "All routes")),
    )
