"""What the services say of themselves: all of it, true, and with nothing else running."""

import ast
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from openapi_spec_validator import validate

import api
from api.accounts.app import create_app as accounts
from api.accounts.refusals import _REFUSALS
from api.balances.app import create_app as balances
from api.http.headers import prefers_html
from api.http.problem_types import PROBLEM_TYPES
from api.http.problems import problem_of
from api.openapi.document import Undescribed
from api.openapi.routes import CONTRACT, Contract
from tests.conftest import placed
from tests.services import Client, problem, serving

SERVICES = {"accounts": accounts, "balances": balances}
PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(params=SERVICES)
async def service(request: pytest.FixtureRequest, scratch: Path) -> AsyncIterator[Client]:
    """A service all of whose servers are away."""
    async with serving(SERVICES[request.param](placed(scratch)), ready=False) as client:
        yield client


async def text(client: Client, path: str, **headers: str) -> str:
    async with client.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_the_document_is_sound_and_has_every_route(service: Client) -> None:
    async with service.get("/openapi.json") as answer:
        document = await answer.json()
    validate(document)
    assert document["openapi"].startswith("3.1.")
    assert service.app is not None
    routes = {
        (each.method, each.resource.canonical)
        for each in service.app.router.routes()
        if each.resource
    }
    told = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert told == {each for each in routes if each[0] != "HEAD"}
    for method, path in told:
        operation = document["paths"][path][method.lower()]
        assert operation["summary"], (method, path)
        assert "500" in operation["responses"]


async def test_a_route_that_says_nothing_is_found() -> None:
    async def mute(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/mute", mute)
    with pytest.raises(Undescribed, match="GET /mute"):
        _ = Contract("The mute service", app.router).document


async def test_inputs_are_told_as_they_are_checked(service: Client) -> None:
    async with service.get("/openapi.json") as answer:
        document = await answer.json()
    shapes = document["components"]["schemas"]
    if "/withdraw" in document["paths"]:
        money = shapes["MoneyInput"]["properties"]["money"]
        assert (money["exclusiveMinimum"], money["exclusiveMaximum"]) == (0, 2**53)
        assert shapes["TransferInput"]["required"] == ["from", "to", "money"]
        assert not shapes["TransferInput"]["additionalProperties"]
    else:
        given = {each.get("name"): each for each in document["paths"]["/"]["get"]["parameters"]}
        limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
        assert given["limit"]["schema"] == limit
        assert given["owner"]["schema"] == {"type": "string", "minLength": 1, "maxLength": 200}


def raised() -> Iterator[tuple[int, str]]:
    """Status and name of every `Problem(…)` and `unavailable(…)` that is written in `api`."""
    for path in Path(api.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                match node.func.id, node.args:
                    case "Problem", [ast.Constant(status), ast.Constant(name), *_]:
                        yield int(str(status)), str(name)
                    case "unavailable", [ast.Constant(name), *_]:
                        yield 503, str(name)
                    case (("Problem" | "unavailable"), _):
                        assert (path.name, ast.unparse(node.args[1])) in COMPUTED


COMPUTED = {
    ("history.py", "kind"),
    ("problems.py", "name"),
    ("problems.py", "names.get(error.status, phrase.lower().replace(' ', '-'))"),
    ("refusals.py", "name"),
}
"""The calls whose names are not written there; `computed` has what becomes of them."""


def computed() -> Iterator[tuple[int, str]]:
    for status, name, _ in _REFUSALS.values():
        yield status, name
    for error in (
        web.HTTPNotFound(),
        web.HTTPMethodNotAllowed("GET", ["POST"]),
        web.HTTPRequestEntityTooLarge(1, 2),
    ):
        found = problem_of(error, lambda _: None)
        assert found is not None
        yield found.status, found.name
    # The HTTP server itself answers these, before there is a route.
    yield from ((400, "malformed-request"), (417, "expectation-failed"))


def test_every_problem_is_listed_and_every_listed_one_is_a_problem() -> None:
    listed = {(each.status, each.name) for each in PROBLEM_TYPES.values()}
    assert listed == {*raised(), *computed()}


async def test_every_problem_has_a_page(service: Client) -> None:
    async with service.get("/problems") as answer:
        listed = (await answer.json())["data"]
    assert [each["type"] for each in listed] == [each.path for each in PROBLEM_TYPES.values()]
    for each in listed:
        async with service.get(each["type"]) as answer:
            assert answer.headers["Vary"] == "Accept"
            assert await answer.json() == each
        async with service.get(each["type"], headers=PAGE) as answer:
            assert answer.content_type == "text/html"
            assert answer.headers["Vary"] == "Accept"
            shown = await answer.text()
        assert f"<h1>{each['title']}</h1>" in shown
        assert each["anywhere"] == ("Any path may answer it" in shown)
        for route in each["routes"] if not each["anywhere"] else ():
            assert f"{route['method']} {route['path']}" in shown
    assert "Insufficient funds" in await text(service, "/problems", **PAGE)
    await problem(await service.get("/problems/no-such"), 404, "not-found")


async def test_a_problem_tells_the_routes_that_answer_it(service: Client, request: Any) -> None:
    async with service.get("/problems/insufficient-funds") as answer:
        routes = (await answer.json())["routes"]
    writes = request.node.callspec.params["service"] == "accounts"
    handed_on = [f"/commands/{name}" for name in ("withdraw", "transfer", "hold")]
    paths = ["/withdraw", "/transfer", "/reverse", "/hold"] if writes else handed_on
    assert [each["path"] for each in routes] == paths


async def test_the_pages_lead_nowhere_else_and_run_nothing(service: Client) -> None:
    paths = ["/docs", "/problems", *(each.path for each in PROBLEM_TYPES.values())]
    shown = {path: await text(service, path, **PAGE) for path in paths}
    for path, page in shown.items():
        assert not re.search(r"<script|<link|<img|\son\w+=|src=|style=|//|url\(", page), path
        for target in re.findall(r'href="([^"]*)"', page):
            there, _, anchor = target.partition("#")
            assert there in {"", "/openapi.json", *shown}, target
            assert not anchor or f'id="{anchor}"' in shown[there or path], target
    async with service.get("/docs") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_has_every_route(service: Client) -> None:
    page = await text(service, "/docs")
    assert service.app is not None
    for each in service.app[CONTRACT].routes:
        assert f'<section id="{each.name}"><h2><code>{each.method} {each.path}</code></h2>' in page
        assert all(f'href="/problems/{name}"' in page for name in each.problems)


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/*", True),
        ("text/html;q=0.5, application/json", False),
        ("text/html, application/json;q=0.9", True),
        ("text/html;q=0, */*", False),
        ("text/html;q=high", False),
        ("text/html;level=1;q=0.1,*/*;q=0.2", False),
        (PAGE["Accept"], True),
        (",;q=,", False),
    ],
)
def test_who_would_rather_have_a_page(accept: str | None, page: bool) -> None:
    headers = {} if accept is None else {"Accept": accept}
    assert prefers_html(make_mocked_request("GET", "/", headers=headers)) == page
