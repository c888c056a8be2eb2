"""HTML without templates: functions return elements, and all text is escaped."""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from typing import Final

from aiohttp import web

from api.http.operations import HTML

_STYLE: Final = """
:root { color-scheme: light dark;
  --line: light-dark(#d5d9e0, #3a404b); --dim: light-dark(#59616e, #a3abb8) }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif }
h1, h2, h3 { line-height: 1.25 }
section { border-top: 1px solid var(--line); padding-top: .5rem; margin-top: 2rem }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
dt { margin-top: .5rem }
dd { margin-left: 1.5rem }
.dim { color: var(--dim) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0 }
th, td { border-bottom: 1px solid var(--line) }
"""

_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()


def secured(sources: str) -> dict[str, str]:
    """The headers of a page that loads only from these sources, and that no page may frame."""
    return {
        "Content-Security-Policy": f"{sources};"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


# These pages load nothing and run no script.
_HEADERS: Final = secured(f"default-src 'none'; style-src 'sha256-{_HASH}'")


class Markup(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


Content = str | Iterable[str]
"""Text, or markup, or several of both."""


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """An element. `class_` stands for the attribute `class`, `aria_label` for `aria-label`."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """One after the other; what is no markup is escaped."""
    return Markup("".join(_markup(each) for each in content))


def link(to: str, text: str) -> Markup:
    return tag("a", text, href=to)


def code(text: str) -> Markup:
    return tag("code", text)


def prose(text: str) -> Markup:
    """Text as docstrings have it: paragraphs, and code between backticks."""
    return joined(tag("p", phrase(each)) for each in re.split(r"\n\s*\n", text) if each.strip())


def phrase(text: str) -> Markup:
    """A line of such text."""
    parts = text.split("`")
    return joined(code(part) if n % 2 else part for n, part in enumerate(parts))


def table(label: str, head: Iterable[str], rows: Iterable[Iterable[Content]]) -> Markup:
    """A table with a heading for each column. On a narrow screen it scrolls, by keyboard too."""
    first = tag("tr", [tag("th", each, scope="col") for each in head])
    rest = [tag("tr", [tag("td", each) for each in row]) for row in rows]
    whole = tag("table", tag("thead", first), tag("tbody", rest))
    return tag("div", whole, class_="wide", tabindex="0", role="region", aria_label=label)


def page(title: str, *content: Content) -> web.Response:
    """A page in one file."""
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width">'),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    whole = tag("html", head, tag("body", tag("main", tag("h1", title), *content)), lang="en")
    return web.Response(text=f"<!doctype html>{whole}", content_type=HTML, headers=_HEADERS)


def _markup(content: Content) -> str:
    if isinstance(content, Markup):
        return content
    return escape(content) if isinstance(content, str) else joined(content)
