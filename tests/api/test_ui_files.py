"""The files of the operator's page: served as they are, guarded, and nothing beside them."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api.balances.app import create_app
from api.balances.ui import _KINDS, FOLDER, read
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.keys import guarded, on
from tests.services import Client, problem, serving

FILES = sorted(read())


@pytest.fixture
async def client(scratch: Path) -> AsyncIterator[Client]:
    """A service all of whose servers are away."""
    async with serving(create_app(placed(scratch)), ready=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/index.html"])
async def test_the_page(client: Client, path: str) -> None:
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert await answer.read() == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
async def test_each_file(client: Client, name: str) -> None:
    path = f"/ui/{name}"
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == _KINDS[Path(name).suffix]
        assert await answer.read() == (FOLDER / name).read_bytes()
        headers = answer.headers
    policy = dict(
        each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    async with client.head(path) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert answer.headers["Content-Length"] == headers["Content-Length"]
        assert answer.headers["ETag"] == headers["ETag"]
    for tag in (headers["ETag"], f'"x", {headers["ETag"]}', f"W/{headers['ETag']}", "*"):
        async with client.get(path, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
            assert answer.headers["ETag"] == headers["ETag"]
    for tag in ('"other"', headers["ETag"].strip('"'), '"', "", 'W/"'):
        async with client.get(path, headers={"If-None-Match": tag}) as answer:
            assert answer.status == 200, tag


@pytest.mark.parametrize(
    "path",
    [
        "/ui/nothing.js",
        "/ui/../ui.py",
        "/ui/%2e%2e/ui.py",
        "/ui/..%2fui.py",
        "/ui/..%5cui.py",
        "/ui//etc/passwd",
        "/ui/%2Fetc%2Fpasswd",
        "/ui/index.html/",
        "/ui/index.html%00",
        "/ui/INDEX.HTML",
        "/ui/.",
    ],
)
async def test_what_is_not_there(client: Client, path: str) -> None:
    url = client.make_url("").with_path(path, encoded=True)
    await problem(await client.session.get(url), 404, "not-found")


async def test_nothing_but_its_files_can_be_asked_for(scratch: Path) -> None:
    (scratch / "app.js").write_text("1")
    (scratch / "secret.py").write_text("1")
    (scratch / "parts").mkdir()
    (scratch / "parts" / "a.css").write_text("")
    assert sorted(read(scratch)) == ["app.js", "parts/a.css"]


async def test_the_page_needs_no_key(settings: Settings) -> None:
    async with guarded(create_app(on(settings))) as client:
        for path in ("/ui", "/ui/index.html"):
            async with client.get(path) as answer:
                assert answer.status == 200


class Links(HTMLParser):
    """What the page loads, and what it must not have within itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [given[n] or "" for n in ("src", "href") if n in given and tag != "a"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


async def test_the_page_loads_only_what_is_served(client: Client) -> None:
    links = Links()
    links.feed((FOLDER / "index.html").read_text())
    assert not links.inline
    for each in links.loads:
        assert re.fullmatch("/ui/.+", each), each
        async with client.get(each) as answer:
            assert answer.status == 200, each
