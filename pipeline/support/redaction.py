"""Removes secrets from a line of the log, whoever logged it."""

import json
import re
import string
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from pydantic import SecretStr

from pipeline.support.access import NATS_SCHEMES, SECRET_IN_QUERY, pieces
from pipeline.support.settings import Settings

_SHORTEST: Final = 8
"""Characters of a secret that is looked for as it is: a shorter one is part of plain words."""

_ESCAPES: Final = r"\\{0,8}"
"""Few enough that a line of backslashes costs little."""
_AS_THEY_ARE: Final = frozenset(string.printable.strip())
_ALL: Final = "surrogatepass"

_TOKEN: Final = r"[A-Za-z0-9._~+/=-]{4,}"
_FORMS: Final = (
    (re.compile(r"bank_([0-9a-f]{4,})_[A-Za-z0-9_-]+"), r"bank_\1_***"),
    (re.compile(rf"\b(bearer|basic|apikey)\s+{_TOKEN}", re.IGNORECASE), r"\1 ***"),
    # Up to the last @ before the path: a password may have one itself.
    (re.compile(r"(://[^\s:/?#@]*:)[^\s/?#\"']*@"), r"\1***@"),
    (re.compile(rf"\b({'|'.join(NATS_SCHEMES)})://[^\s:/?#@\"']+@"), r"\1://***@"),
    (
        re.compile(r"([?&]\w*(?:password|passwd|token|secret|api_?key)\w*=)[^&#\s'\"]*", re.I),
        r"\1***",
    ),
)


class Redaction:
    """What looks like a key or a password, and the process's own secrets whatever they look like,
    becomes `***`."""

    def __init__(self, settings: Settings) -> None:
        plain = {each for each in _secrets(settings) if len(each) >= _SHORTEST}
        own = sorted(plain, key=len, reverse=True)
        self._own = re.compile("|".join(map(_written, own))) if own else None

    def __call__(self, line: str) -> str:
        if self._own is not None:
            line = self._own.sub("***", line)
        for form, instead in _FORMS:
            line = form.sub(instead, line)
        return line


def _secrets(settings: Settings) -> Iterable[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif name.endswith("_url"):
            for url in pieces(value):
                yield from map(unquote, _in_url(url))


def _in_url(url: str) -> Iterable[str]:
    """The parts of a URL that are secret, as they are written."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    name, colon, password = authority.rpartition("@")[0].partition(":")
    yield password
    if scheme in NATS_SCHEMES and not colon:
        yield name
    for option in SECRET_IN_QUERY.finditer(url):
        yield option["value"]
        yield option["value"].partition(";")[0]  # where MongoDB's driver ends it


def _written(secret: str) -> str:
    """A pattern of the secret in whatever form it comes into a line: as it is, in a URL, and with
    the escapes of `repr`, of JSON and of `visible`, of one inside another, too."""
    return "".join(f"(?:{'|'.join(_forms(char))})" for char in secret)


def _forms(char: str) -> Iterable[str]:
    yield _ESCAPES + re.escape(char)
    code = f"{ord(char):x}"
    yield rf"\\{_ESCAPES}(?i:x{code:0>2}|u{code:0>4}|U{code:0>8})"
    yield "".join(rf"(?i:(?:%|\\{_ESCAPES}x){byte:02x})" for byte in char.encode("utf-8", _ALL))
    if char not in _AS_THEY_ARE:  # of a control its letter, beyond 16 bits both halves
        yield json.dumps(char)[1:-1].replace("\\", rf"\\{_ESCAPES}")
    if char == " ":
        yield r"\+"
