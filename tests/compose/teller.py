"""Somebody who moves money over HTTP, and asks again while a service is away."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from uuid import uuid4

from tests.compose.lines import Failed, until

ACCOUNTS: Final = "http://127.0.0.1:8000"
BALANCES: Final = "http://127.0.0.1:8030"


class Refused(Exception):
    """An answer that asking again does not change."""


def asked(url: str, body: object = None, **headers: str) -> Any:
    """The JSON that is answered. Raises `Refused`, `Failed`, or OSError where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    told = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data, told)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        kind = Refused if error.code in (401, 403, 422) else Failed
        raise kind(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
    except HTTPException as error:
        raise OSError(str(error)) from error


@dataclass
class Teller:
    """Two accounts, and what must be in them."""

    key: str = ""
    held: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        for owner in ("Paulo", "Ana"):
            made = self._command("create", {"owner": owner, "money": 500})
            self.held[made["id"]] = 500

    def move(self) -> None:
        """A deposit and a transfer; then both are read on the other port, as they must be."""
        first, second = self.held
        self._command("deposit", {"id": first, "money": 10})
        self._command("transfer", {"from": first, "to": second, "money": 4})
        self.held[first] += 6
        self.held[second] += 4
        for account in self.held:
            self._read(account)

    def _read(self, account: str) -> None:
        strong = until(account, lambda: self._get(f"{ACCOUNTS}/{account}"))
        url = f"{BALANCES}/{account}?timeout=20&min_version={strong['version']}"
        shown = until(f"balance of {account}", lambda: self._fresh(url))
        if {strong["balance"], shown["balance"]} != {self.held[account]}:
            raise Failed(f"{account} holds {self.held[account]}; told: {strong}, {shown}")

    def _command(self, name: str, body: object) -> Any:
        once = {"Idempotency-Key": str(uuid4()), **self._proof()}
        return until(name, lambda: asked(f"{ACCOUNTS}/{name}", body, **once))

    def _get(self, url: str) -> Any:
        return asked(url, **self._proof())

    def _fresh(self, url: str) -> Any:
        shown = self._get(url)
        return None if shown.get("stale") else shown

    def _proof(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}
