"""`GET /ui`: the operator's page. It contains no data: it reads them from the other routes.

Its files are read once, when the service starts; no other file can be requested.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from api.http.html import secured
from api.http.operations import HTML, Answer, Header, operation
from api.http.problems import Problem
from api.security.access import open_to_all
from pipeline.model.names import BANK, Names

FOLDER: Final = Path(__file__).parent / "page" / "static"
_INDEX: Final = "index.html"
_KINDS: Final = {
    ".html": HTML,
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
    ".md": "text/plain",
}
"""Media types by a file's suffix. Other files are no part of the page."""

_HEADERS: Final = {
    # All scripts and styles are files of this service; none is inline.
    **secured(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
        " connect-src 'self'; manifest-src 'self'"
    ),
    # A browser caches the files, and asks each time whether they have changed.
    "Cache-Control": "no-cache",
}
_ETAG: Final = Header("ETag", "Of the file's content.", {"type": "string"})

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page; `etag` is of its content."""

    body: bytes
    kind: str
    etag: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or 304 when the client has it."""
        headers = {**_HEADERS, "ETag": f'"{self.etag}"'}
        known = request.if_none_match or ()
        if any(each.value in (self.etag, "*") for each in known):
            return web.Response(status=304, headers=headers)
        charset = "utf-8" if self.kind.startswith("text/") else None
        return web.Response(
            body=self.body, content_type=self.kind, charset=charset, headers=headers
        )


def read(folder: Path = FOLDER, names: Names = BANK) -> Mapping[str, File]:
    """All files by name, those in folders as `folder/name`; the page as an application has it."""
    found = (each for each in sorted(folder.rglob("*")) if each.suffix in _KINDS)
    files = {each.relative_to(folder).as_posix(): each for each in found}
    bodies = {name: path.read_bytes() for name, path in files.items()}
    if names != BANK:
        bodies[_INDEX] = _of_another(bodies[_INDEX].decode(), names).encode()
    return {name: _file(body, files[name].suffix) for name, body in bodies.items()}


def _file(body: bytes, suffix: str) -> File:
    return File(body, _KINDS[suffix], hashlib.sha256(body).hexdigest()[:32])


def _of_another(index: str, names: Names) -> str:
    """The page of an application that is not the bank: by its name, and without accounts."""
    for bank, another in (
        (">Bank<", f">{names.title}<"),
        (" Bank<", f" {names.title}<"),
        ("<body>", '<body data-thing="aggregate">'),
        ('        <li><a href="#/accounts">Accounts</a></li>\n', ""),
        (" Money is in whole minor units.", ""),
    ):
        assert bank in index, bank
        index = index.replace(bank, another)
    return index


FILES: Final = web.AppKey("files", Mapping[str, File])

_UNCHANGED: Final = Answer({}, status=304, headers=(_ETAG,))


@routes.get("/ui")
@open_to_all
@operation(Answer({HTML: str}, headers=(_ETAG,)), also=(_UNCHANGED,))
async def ui(request: web.Request) -> web.Response:
    """The operator's page: the pipeline, partitions, rebuilds, parked accounts, balances.

    It needs no key, for it holds no data; what it shows it asks the other routes for.
    """
    return request.app[FILES][_INDEX].answer(request)


@routes.get("/ui/{file:.*}")
@open_to_all
@operation(Answer(dict.fromkeys(_KINDS.values(), str), headers=(_ETAG,)), also=(_UNCHANGED,))
async def ui_file(request: web.Request) -> web.Response:
    """A file of the page."""
    name = request.match_info["file"] or _INDEX
    found = request.app[FILES].get(name)
    if found is None:
        raise Problem(404, "not-found", "The page has no such file.")
    return found.answer(request)
