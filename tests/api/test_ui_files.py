"""The files of the operator's page: as they are and joined, guarded, and nothing beside them."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api.balances.app import create_app
from api.balances.joined_modules import joined
from api.balances.ui import _KINDS, FOLDER, read
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.keys import guarded, on
from tests.services import Client, problem, serving

FILES = read()


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
        assert await answer.read() == FILES["index.html"].body


@pytest.mark.parametrize("name", FILES)
async def test_each_file(client: Client, name: str) -> None:
    path = f"/ui/{name}"
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == _KINDS[Path(name).suffix]
        assert await answer.read() == FILES[name].body
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


async def test_a_file_stands_as_it_is_beside_what_is_made_of_it() -> None:
    made = {"index.html", "joined.js", "joined.css"}
    for name in FILES.keys() - made:
        assert FILES[name].body == (FOLDER / name).read_bytes(), name
    assert made <= FILES.keys()


async def test_a_browser_keeps_what_its_address_names_by_content(client: Client) -> None:
    file = FILES["joined.js"]
    for query, caching in (
        (file.etag, "public, max-age=31536000, immutable"),
        ("0" * 32, "no-cache"),
        ("", "no-cache"),
    ):
        async with client.get(f"/ui/joined.js?{query}") as answer:
            assert answer.headers["Cache-Control"] == caching


@pytest.mark.parametrize("name", ["index.html", "joined.js", "joined.css", "icon.svg"])
async def test_it_comes_compressed_to_who_takes_that(client: Client, name: str) -> None:
    tags = set[str]()
    for accepted, packed in (("gzip, br", True), ("identity", False), ("gzip;q=0", False)):
        async with client.get(f"/ui/{name}", headers={"Accept-Encoding": accepted}) as answer:
            assert (answer.headers.get("Content-Encoding") == "gzip") is packed
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert await answer.read() == FILES[name].body
            tags.add(answer.headers["ETag"])
    assert len(tags) == 2


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        ({"app.js": 'import "./a.js";\n', "a.js": ""}, 'import "./a.js"'),
        ({"app.js": "export default 1;\n"}, "export default"),
        ({"app.js": 'const a = await import("./a.js");\n', "a.js": ""}, "await import"),
        (
            {
                "app.js": 'import { b } from "./b/b.js";\n',
                "b/b.js": 'import { a } from "../app.js";\n',
            },
            "import each other",
        ),
    ],
)
async def test_what_can_not_be_joined_is_refused(modules: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        joined(modules, "app.js", str)


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
    links.feed(FILES["index.html"].body.decode())
    assert not links.inline
    for each in links.loads:
        assert re.fullmatch(r"/ui/.+\?[0-9a-f]{32}", each), each
        async with client.get(each) as answer:
            assert answer.status == 200, each
            assert "immutable" in answer.headers["Cache-Control"]
