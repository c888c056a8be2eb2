"""Requests from nearly right to no HTTP at all."""

import gzip
import json
from typing import Final

from tests.hostile.junk import JUNK, Draws

PATHS: Final = {
    "accounts": (
        "/create",
        "/deposit",
        "/withdraw",
        "/transfer",
        "/freeze",
        "/unfreeze",
        "/close",
        "/{id}",
        "/{id}/events",
        "/whoami",
    ),
    "balances": (
        "/",
        "/{id}",
        "/{id}/events",
        "/{id}/statement",
        "/parked/{id}",
        "/rebuilds/{id}",
        "/rebuilds/{id}/events",
        "/{id}/rebuild",  # of no projection: a sound one is an order
        "/partitions",
        "/pipeline",
        "/pipeline/events",
        "/activity",
        "/whoami",
    ),
}
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
HEADERS: Final = (
    "Idempotency-Key",
    "If-Match",
    "Accept",
    "Authorization",
    "Content-Encoding",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
    "X-Correlation-ID",
    "Last-Event-ID",
    "Origin",
    "Range",
    "Referer",
    "Cookie",
    "Host",
    "Sec-Fetch-Site",
    "baggage",
    "traceparent",
)
BOMB: Final = gzip.compress(bytes(20_000_000))
PARAMETERS: Final = (
    "limit",
    "sort",
    "owner",
    "starting_after",
    "version",
    "at",
    "min_version",
    "search",
    "after",
    "kind",
    "since",
    "until",
    "reference",
    "timeout",
)

FIELDS: Final = (
    "owner",
    "money",
    "id",
    "from",
    "to",
    "reason",
    "public_reason",
    "reference",
    "description",
)


class Requests(Draws):
    """Over connections to the services."""

    def request(self, service: str) -> bytes:
        """What goes over a connection to a service: from nearly right to no HTTP at all.

        Only a GET or HEAD may be sound by chance.
        """
        if self.chance.random() < 0.05:
            return self.noise(200) + b"\r\n\r\n"
        body = self._body()
        lines = [
            f"{self.chance.choice(METHODS)} {self._target(service)} HTTP/1.1",
            "Host: localhost",
            "Content-Type: " + self.chance.choice(("application/json",) * 6 + ("text/plain", "")),
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        for name in self.chance.sample(HEADERS, self.chance.randrange(3)):
            for _ in range(self.chance.choice((1, 1, 1, 2))):
                lines.append(f"{name}: {self._value(name)}")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return self._whole_or_half(head, body)

    def _whole_or_half(self, head: bytes, body: bytes) -> bytes:
        """Now and then the connection ends in the middle of the head or of the body."""
        number = self.chance.random()
        if number < 0.05:
            return head[: self.chance.randrange(1, len(head))]
        if number < 0.1 and body:
            return head + body[: self.chance.randrange(len(body))]
        return head + body

    def _value(self, name: str) -> str:
        """Of a header: text, or any bytes, or what a parser of it may fail over."""
        if name == "Content-Encoding" and self.chance.random() < 0.5:
            return self.chance.choice(("gzip", "deflate", "br", "zstd"))
        if name == "Authorization" and self.chance.random() < 0.5:
            scheme = self.chance.choice(("Bearer", "bearer", "Basic", "ApiKey", ""))
            token = self.chance.choice(("0" * 16, self.text(16)))
            return f"{scheme} bank_{token}_{self.text(60)}"
        if self.chance.random() < 0.3:
            return self.noise(60).decode("latin-1")
        if self.chance.random() < 0.3:
            return self.chance.choice(("http://[", "\xe9", "," * 8000, "9" * 5000, "evil.example"))
        return self.text(self.chance.choice((5, 50, 9000)))

    def _target(self, service: str) -> str:
        path = self.chance.choice(PATHS[service])
        path = path.replace("{id}", self.chance.choice((*self.accounts, "x", "%00", "%ff", "a/b")))
        if self.chance.random() < 0.5:
            return path
        names = self.chance.choices(PARAMETERS, k=self.chance.choice((1, 1, 2)))
        return f"{path}?{'&'.join(f'{name}={self._argument()}' for name in names)}"

    def _argument(self) -> str:
        return self.text(self.chance.choice((3, 30, 3000))).replace(" ", "+")

    def _body(self) -> bytes:
        """JSON of the right fields with wrong values, or worse. Never a sound command."""
        if self.chance.random() < 0.2:
            return self.chance.choice((self.noise(50), self.noise(70_000), BOMB))
        if self.chance.random() < 0.1:
            members: dict[str, object] = {f"member-{n}": n for n in range(3000)}
            return json.dumps({**members, "?": "9" * 20_000}).encode()
        fields = {name: self.chance.choice(JUNK) for name in self.chance.sample(FIELDS, 3)}
        return json.dumps({**fields, "?": 1}).encode()
