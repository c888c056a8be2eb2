"""What `nsc` makes: an operator, an account and a user of NATS, signed one by the other."""

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import nkeys

CREDS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""

_PLAIN = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
_JETSTREAM = ("mem_storage", "disk_storage", "streams", "consumer")


@dataclass(frozen=True, slots=True)
class Nkey:
    """A key pair; `seed` is the secret half, as text."""

    seed: str

    @classmethod
    def new(cls, prefix: int = nkeys.PREFIX_BYTE_USER) -> "Nkey":
        return cls(nkeys.encode_seed(os.urandom(32), prefix).decode())

    @property
    def public(self) -> str:
        return str(nkeys.from_seed(bytearray(self.seed.encode())).public_key.decode())

    def sign(self, kind: str, of: "Nkey", **claims: Any) -> str:
        """A JWT that says of another key what it is."""
        body = {"iss": self.public, "sub": of.public, "name": kind, "iat": 1_700_000_000}
        body["nats"] = {**claims, "type": kind, "version": 2}
        body["jti"] = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = ".".join(_text(json.dumps(each).encode()) for each in (head, body))
        proof = nkeys.from_seed(bytearray(self.seed.encode())).sign(signed.encode())
        return f"{signed}.{_text(proof)}"


@dataclass(frozen=True, slots=True)
class Operator:
    """A server's configuration by an operator: the server's own account, and one with users."""

    key: Nkey
    system: Nkey
    account: Nkey

    @classmethod
    def new(cls) -> "Operator":
        kinds = (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
        return cls(*map(Nkey.new, kinds))

    def configuration(self) -> str:
        limits: dict[str, Any] = {**dict.fromkeys(_PLAIN + _JETSTREAM, -1), "wildcards": True}
        plain = {name: limit for name, limit in limits.items() if name not in _JETSTREAM}
        account = self.key.sign("account", self.account, limits=limits)
        system = self.key.sign("account", self.system, limits=plain)
        return f"""
        operator: {self.key.sign("operator", self.key)}
        system_account: {self.system.public}
        resolver: MEMORY
        resolver_preload: {{ {self.account.public}: {account}, {self.system.public}: {system} }}
        """

    def creds(self, user: Nkey) -> str:
        """The credentials file of a user."""
        jwt = self.account.sign("user", user, subs=-1, data=-1, payload=-1)
        return CREDS.format(jwt=jwt, seed=user.seed)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
