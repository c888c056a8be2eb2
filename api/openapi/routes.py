"""`/openapi.json`, `/docs` and `/problems`: the service's description. They read no server."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

from aiohttp import web
from typing_extensions import TypedDict

from api.http.headers import prefers_html
from api.http.operations import HTML, JSON, Answer, json, operation
from api.http.problem_types import PROBLEM_TYPES, ProblemType, of_another
from api.http.problems import Problem
from api.http.replies import reply
from api.http.shapes import All, Schema
from api.openapi.document import Route, described, document
from api.openapi.pages import docs_page, problem_page, problems_page
from api.security.access import open_to_all
from pipeline.model.names import BANK, Names

routes = web.RouteTableDef()


class Answering(TypedDict):
    """A route."""

    method: str
    path: str


class ShownType(TypedDict):
    """A type of problem: what it means, what to do, and which routes answer it.

    `anywhere`: and any other path may, too.
    """

    type: str
    title: str
    status: int
    meaning: str
    remedy: str
    anywhere: bool
    routes: list[Answering]


class Contract:
    """The description of a service, read from its routes at the first use."""

    def __init__(
        self,
        title: str,
        router: web.UrlDispatcher,
        own_problems: Iterable[ProblemType] = (),
        names: Names = BANK,
    ) -> None:
        self._title, self._router, self._names = title, router, names
        self._types = PROBLEM_TYPES | {each.name: each for each in own_problems}

    @cached_property
    def routes(self) -> Sequence[Route]:
        return list(described(self._router.routes()))

    @cached_property
    def document(self) -> Schema:
        return document(self._title, self.routes, self._types)

    @cached_property
    def problem_types(self) -> Mapping[str, ProblemType]:
        """By name. Of another application only those that can be answered: the bank's are of no
        use there."""
        if self._names == BANK:
            return self._types
        known = self._types.items()
        own = {name: of_another(each) for name, each in known if each.name in PROBLEM_TYPES}
        answered = {name for route in self.routes for name in route.problems}
        return {
            name: own.get(name, each) for name, each in known if each.anywhere or name in answered
        }

    def answering(self, problem: ProblemType) -> list[Route]:
        """The routes that may answer with this problem."""
        return [each for each in self.routes if problem.name in each.problems]


CONTRACT: Final = web.AppKey("contract", Contract)


@routes.get("/openapi.json")
@open_to_all
@operation(json(dict[str, object]))
async def openapi(request: web.Request) -> web.Response:
    """This contract, as an OpenAPI 3.1 document."""
    return reply(request.app[CONTRACT].document)


@routes.get("/docs")
@open_to_all
@operation(Answer({HTML: str}))
async def docs(request: web.Request) -> web.Response:
    """This contract, as a page."""
    return docs_page(request.app[CONTRACT].document)


@routes.get("/problems")
@open_to_all
@operation(Answer({JSON: All[ShownType], HTML: str}))
async def problem_types(request: web.Request) -> web.Response:
    """All types of problems, as JSON or as a page."""
    contract = request.app[CONTRACT]
    types = contract.problem_types.values()
    if prefers_html(request):
        return _varying(problems_page(types))
    return _varying(reply({"data": [_shown(each, contract) for each in types]}))


@routes.get("/problems/{name}")
@open_to_all
@operation(Answer({JSON: ShownType, HTML: str}))
async def problem_type(request: web.Request) -> web.Response:
    """What a problem means and what to do about it, as JSON or as a page."""
    name, contract = request.match_info["name"], request.app[CONTRACT]
    if name not in contract.problem_types:
        raise Problem(404, "not-found", f"There is no type of problem {name}.")
    found = contract.problem_types[name]
    if prefers_html(request):
        return _varying(problem_page(found, contract.answering(found)))
    return _varying(reply(_shown(found, contract)))


def _shown(problem: ProblemType, contract: Contract) -> ShownType:
    answering = contract.answering(problem)
    return {
        "type": problem.path,
        "title": problem.title,
        "status": problem.status,
        "meaning": problem.meaning,
        "remedy": problem.remedy,
        "anywhere": problem.anywhere,
        "routes": [{"method": each.method, "path": each.path} for each in answering],
    }


def _varying(response: web.Response) -> web.Response:
    """Add `Vary: Accept`: the response depends on that header."""
    response.headers["Vary"] = "Accept"
    return response
