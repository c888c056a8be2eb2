"""Removes secrets from a line of the log, whoever logged it."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from pipeline.support.settings import Settings

_SHORTEST: Final = 8
"""Characters of a secret that is looked for as it is: a shorter one is part of plain words."""

_TOKEN: Final = r"[A-Za-z0-9._~+/=-]{4,}"
_FORMS: Final = (
    (re.compile(r"bank_([0-9a-f]{4,})_[A-Za-z0-9_-]+"), r"bank_\1_***"),
    (re.compile(rf"\b(bearer|basic|apikey)\s+{_TOKEN}", re.IGNORECASE), r"\1 ***"),
    # Up to the last @ before the path: a password may have one itself.
    (re.compile(r"(://[^\s:/?#@]*:)[^\s/?#\"']*@"), r"\1***@"),
    (
        re.compile(r"([?&]\w*(?:password|passwd|token|secret|api_?key)\w*=)[^&#\s'\"]*", re.I),
        r"\1***",
    ),
)


class Redaction:
    """What looks like a key or a password, and the process's own secrets whatever they look like,
    becomes `***`."""

    def __init__(self, settings: Settings) -> None:
        plain = [each for each in _secrets(settings) if len(each) >= _SHORTEST]
        own = sorted({*plain, *(quote(each, safe="") for each in plain)}, key=len, reverse=True)
        self._own = re.compile("|".join(map(re.escape, own))) if own else None

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
            yield unquote(urlsplit(value).password or "")
