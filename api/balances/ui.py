"""`GET /ui`: the operator's page. It contains no data: it reads them from the other routes.

Its files are read once, when the service starts; no other file can be requested. The page loads its
modules joined into one, and its styles too; each by an address that has the content's hash in it.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from api.balances.joined_modules import joined
from api.http.html import secured
from api.http.operations import HTML, Answer, Header, operation
from api.http.problems import Problem
from api.security.access import open_to_all
from pipeline.model.names import BANK, Names

FOLDER: Final = Path(__file__).parent / "page" / "static"
_INDEX: Final = "index.html"
_ENTRY: Final = "app.js"
_SCRIPT: Final = "joined.js"
_STYLE: Final = "joined.css"
_STYLE_LINK: Final = re.compile(r'<link rel="stylesheet" href="/ui/(.+)">\n')
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
    "Vary": "Accept-Encoding",
}
_ASK_AGAIN: Final = "no-cache"
_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ETAG: Final = Header("ETag", "Of the file's content.", {"type": "string"})

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page; `packed` is its body in gzip, `etag` is of its content."""

    body: bytes
    packed: bytes
    kind: str
    etag: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or 304 when the client has it. By an address with its tag it never changes."""
        packed = _GZIP.search(request.headers.get("Accept-Encoding", "")) is not None
        tag = f"{self.etag}-gzip" if packed else self.etag
        caching = _FOR_EVER if request.query_string == self.etag else _ASK_AGAIN
        headers = {**_HEADERS, "Cache-Control": caching, "ETag": f'"{tag}"'}
        known = request.if_none_match or ()
        if any(each.value in (tag, "*") for each in known):
            return web.Response(status=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        charset = "utf-8" if self.kind.startswith("text/") else None
        body = self.packed if packed else self.body
        return web.Response(body=body, content_type=self.kind, charset=charset, headers=headers)


def read(folder: Path = FOLDER, names: Names = BANK) -> Mapping[str, File]:
    """All files by name, those in folders as `folder/name`; the page as an application has it."""
    found = (each for each in sorted(folder.rglob("*")) if each.suffix in _KINDS)
    files = {
        each.relative_to(folder).as_posix(): _file(each.name, each.read_bytes()) for each in found
    }
    return _page(files, names) if _INDEX in files else files


def _page(files: Mapping[str, File], names: Names) -> Mapping[str, File]:
    """The page itself and what it loads: its modules and its styles, each joined into one file."""
    index = files[_INDEX].body.decode()
    styles = [files[each].body for each in _STYLE_LINK.findall(index)]
    made = {**files, _STYLE: _file(_STYLE, b"\n".join(styles))}

    def address(name: str) -> str:
        return f"/ui/{name}?{made[name].etag}"

    modules = {name: each.body.decode() for name, each in files.items() if name.endswith(".js")}
    made[_SCRIPT] = _file(_SCRIPT, joined(modules, _ENTRY, address).encode())
    index = _STYLE_LINK.sub("", index).replace(f"/ui/{_ENTRY}", f"/ui/{_SCRIPT}")
    index = index.replace("</head>", f'<link rel="stylesheet" href="/ui/{_STYLE}">\n</head>')
    index = re.sub('"/ui/([^"]+)"', lambda found: f'"{address(found[1])}"', index)
    if names != BANK:
        index = _of_another(index, names)
    return {**made, _INDEX: _file(_INDEX, index.encode())}


def _file(name: str, body: bytes) -> File:
    etag = hashlib.sha256(body).hexdigest()[:32]
    return File(body, gzip.compress(body, mtime=0), _KINDS[Path(name).suffix], etag)


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
