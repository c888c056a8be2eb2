"""Seals: the heads of all accounts at a moment, for somebody outside to keep, and signed.

A seal is text. Each line but the last is a JSON object `{"account", "version", "hash"}`, in order
of slot and account; the last is `{"seal", "began", "ended", "accounts", "events"}`. A head is read
while traffic goes on: it is the account's at some time between `began` and `ended`.

The signature is Ed25519 over the bytes of the whole seal, and stands in a file of its own, so that
`openssl pkeyutl -verify -rawin` checks it without the bank.
"""

import base64
import binascii
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pipeline.eventstore import EventStore
from pipeline.model.chain import Chain
from pipeline.model.events import SLOTS, slot_of
from pipeline.operations.checker.report import Faults
from pipeline.support.logs import moment

FORMAT: Final = 1
_PRIVATE: Final = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC: Final = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in PKCS #8, and in SubjectPublicKeyInfo."""


class InvalidSeal(ValueError):
    """A file is no seal, or no key; the message says why."""


class Head(NamedTuple):
    """An account's last event: its version and its hash."""

    account: str
    version: int
    hash: str


@dataclass(slots=True)
class Walk:
    """A walk over all events, account by account; `faults`: what is wrong with their chains."""

    accounts: int = 0
    events: int = 0
    faults: Faults = field(default_factory=Faults)

    async def heads(self, store: EventStore) -> AsyncIterator[tuple[Head, bool]]:
        """The head after each event, and whether the event begins an account."""
        account, chain = "", Chain()
        async for events in store.replay(range(SLOTS)):
            for event in events:
                begins = event["account_id"] != account
                if begins:
                    account, chain = event["account_id"], Chain()
                    self.accounts += 1
                self.events += 1
                if wrong := chain.follow(event):
                    self.faults.add(f"account {account}, version {event['version']}: {wrong}")
                yield Head(account, int(event["version"]), chain.head), begins


async def seal(store: EventStore, walk: Walk) -> AsyncIterator[bytes]:
    """The lines of a seal of the bank as it is. Of no use if the walk has found faults."""
    began = moment(time.time())
    last: Head | None = None
    async for head, begins in walk.heads(store):
        if begins and last is not None:
            yield _line(last._asdict())
        last = head
    if last is not None:
        yield _line(last._asdict())
    figures = {"accounts": walk.accounts, "events": walk.events}
    yield _line({"seal": FORMAT, "began": began, "ended": moment(time.time()), **figures})


async def check(store: EventStore, lines: Iterable[bytes], walk: Walk) -> int:
    """Whether each head of a seal is still in its account's chain; returns how many were compared.

    The faults are the walk's. Raises `InvalidSeal`. One head is in memory at a time.
    """
    sealed = _heads(lines)
    wanted, compared = next(sealed, None), 0
    async for head, _ in walk.heads(store):
        while wanted is not None and _before(wanted, head):
            walk.faults.add(f"account {wanted.account}: version {wanted.version} is gone")
            wanted, compared = next(sealed, None), compared + 1
        if wanted is not None and (wanted.account, wanted.version) == head[:2]:
            if wanted.hash != head.hash:
                what = f"account {head.account}, version {head.version}"
                walk.faults.add(f"{what}: its hash is not the sealed one")
            wanted, compared = next(sealed, None), compared + 1
    while wanted is not None:
        walk.faults.add(f"account {wanted.account}: version {wanted.version} is gone")
        wanted, compared = next(sealed, None), compared + 1
    return compared


def _before(wanted: Head, reached: Head) -> bool:
    """Whether the walk has passed the place of a sealed head."""
    return _place(wanted) < _place(reached)


def _place(head: Head) -> tuple[int, str, int]:
    return slot_of(head.account), head.account, head.version


def _heads(lines: Iterable[bytes]) -> Iterator[Head]:
    """The heads in a seal, which must be whole and in order."""
    last: Head | None = None
    number, end = 0, None
    for line in lines:
        if end is not None:
            raise InvalidSeal("there are lines after its last one")
        content = _parsed(line)
        if "seal" in content:
            end = content
            continue
        try:
            head = Head(str(content["account"]), int(content["version"]), str(content["hash"]))
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidSeal(f"line {number + 1} is no head of an account") from error
        if last is not None and _place(last)[:2] >= _place(head)[:2]:
            raise InvalidSeal(f"line {number + 1} is not in order")
        last, number = head, number + 1
        yield head
    if end is None:
        raise InvalidSeal("its last line is missing")
    if end["seal"] != FORMAT or end.get("accounts") != number:
        raise InvalidSeal("its last line does not fit the others")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InvalidSeal("it has a line that is no JSON object")
    return content


def _line(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


# ---------------------------------------------------------------- signatures


def new_key() -> tuple[str, str]:
    """A new private key and its public key, in PEM, as `openssl genpkey -algorithm ed25519`."""
    key = SigningKey.generate()
    return (
        _pem("PRIVATE KEY", _PRIVATE + bytes(key)),
        _pem("PUBLIC KEY", _PUBLIC + bytes(key.verify_key)),
    )


def sign(content: bytes, private_pem: str) -> bytes:
    """The signature, 64 bytes; raises `InvalidSeal` for what is no private Ed25519 key."""
    return SigningKey(_raw("PRIVATE KEY", _PRIVATE, private_pem)).sign(content).signature


def signed(content: bytes, signature: bytes, public_pem: str) -> bool:
    """Whether the signature is that of the content by the holder of the private key."""
    try:
        VerifyKey(_raw("PUBLIC KEY", _PUBLIC, public_pem)).verify(content, signature)
    except (BadSignatureError, ValueError) as error:
        if isinstance(error, InvalidSeal):
            raise
        return False
    return True


def _pem(name: str, der: bytes) -> str:
    return f"-----BEGIN {name}-----\n{base64.b64encode(der).decode()}\n-----END {name}-----\n"


def _raw(name: str, prefix: bytes, pem: str) -> bytes:
    """The 32 bytes of a key."""
    begin, end = f"-----BEGIN {name}-----", f"-----END {name}-----"
    try:
        der = base64.b64decode("".join(pem.split(begin)[1].split(end)[0].split()), validate=True)
    except (IndexError, binascii.Error):
        der = b""
    if len(der) != len(prefix) + 32 or not der.startswith(prefix):
        raise InvalidSeal(f"no {name.lower()} of Ed25519 in PEM")
    return der[len(prefix) :]
