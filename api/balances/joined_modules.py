"""Joins the page's own modules into one, so that a browser asks once and not for fifty of them.

It knows the forms of `import` and `export` that the page uses, each at the beginning of a line, and
refuses others. Modules of others, in `vendor/`, stay as they are.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

_IMPORT: Final = re.compile(r'^import (?P<what>[^"]+) from "(?P<place>[^"]+)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(
    r"^export (?:(?P<declares>(?:async )?(?:const|class|function\*?) )(?P<named>\w+|\{[^}]*\})"
    r"|\{(?P<listed>[^}]*)\};\n)",
    re.MULTILINE,
)
_LEFT: Final = re.compile(r"^(?:import|export)\b.*|await import\(", re.MULTILINE)


def joined(modules: Mapping[str, str], entry: str, address: Callable[[str], str]) -> str:
    """One module that does what `entry` does.

    `modules` are all modules by name, `core/dom.js`; `address` has the URL of one that stays apart.
    Raises ValueError for what it does not know, and for modules that import each other.
    """
    order = list(_needed(modules, entry, ()))
    others = sorted({place for name in order for place in _places(modules, name) if _apart(place)})
    heads = (f'import * as {_variable(each)} from "{address(each)}";' for each in others)
    bodies = (_body(name, modules[name]) for name in dict.fromkeys(order))
    return "\n".join([*heads, *bodies])


def _needed(modules: Mapping[str, str], name: str, within: tuple[str, ...]) -> Iterator[str]:
    """What must be there before the module, and then itself; some of it more than once."""
    if name in within:
        raise ValueError(f"{' and '.join(within)} import each other")
    for place in _places(modules, name):
        if not _apart(place):
            yield from _needed(modules, place, (*within, name))
    yield name


def _places(modules: Mapping[str, str], name: str) -> list[str]:
    return [_resolved(name, each["place"]) for each in _IMPORT.finditer(modules[name])]


def _resolved(name: str, place: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), place))


def _apart(name: str) -> bool:
    return name.startswith("vendor/")


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _body(name: str, text: str) -> str:
    exported = list[str]()

    def imported(found: re.Match[str]) -> str:
        module, what = _variable(_resolved(name, found["place"])), found["what"]
        if what.startswith("{"):
            return f"const {re.sub(r' as ', ': ', what)} = {module};\n"
        if what.startswith("* as "):
            return f"const {what.removeprefix('* as ')} = {module};\n"
        return f"const {{ default: {what} }} = {module};\n"

    def export(found: re.Match[str]) -> str:
        exported.extend(re.findall(r"\w+", found["named"] or found["listed"]))
        return f"{found['declares']}{found['named']}" if found["declares"] else ""

    body = _EXPORT.sub(export, _IMPORT.sub(imported, text))
    if left := _LEFT.search(body):
        raise ValueError(f"{name} has what can't be joined: {left[0]}")
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();"
