"""Personal fields of events, which are stored encrypted by a key of their subject; pure.

The subject is the aggregate. An event that is stored so has

    body        without its personal fields
    encrypted   {since, fields, data}

and no `request`, which is a digest of what the client sent. `fields` names what the body lacks.
`data` is URL-safe Base64 of the nonce and the ciphertext (XChaCha20-Poly1305) of both, as JSON
padded to a multiple of 64 bytes, bound to account, version and kind. `since` says which key it is:
the version of the account's last forgetting before the event, 0 without one.

Readers have the event opened: with its fields in the body, or with `FORGOTTEN` in their place.
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, cast

import orjson
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)

from pipeline.model.derived import Opened, as_stored, before_upcast, is_opened
from pipeline.model.events import Event
from pipeline.model.upcasters import Unreadable, upcast

FORGOTTEN: Final = "[forgotten]"
"""What readers see in the place of a personal field whose key is deleted."""
WITHHELD: Final = "[personal]"
"""What a projection with a document for each event gets in the place of personal fields."""
KEY_BYTES: Final = crypto_aead_xchacha20poly1305_ietf_KEYBYTES

_NONCE_BYTES: Final = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_ENCRYPTED: Final = "encrypted"
_BLOCK: Final = 64

E = TypeVar("E", bound=Mapping[str, Any])


class SubjectKey(NamedTuple):
    """A key of a subject: that of its events since the version of a forgetting, or since 0."""

    since: int
    key: bytes


class Subject(NamedTuple):
    """Up to which version it is forgotten, 0 for none, and the keys that there are, by `since`.

    Those of before that version are about to be deleted: nothing is read by them any more.
    """

    since: int
    keys: Mapping[int, bytes]


def is_encrypted(event: Mapping[str, Any]) -> bool:
    """Whether the event is stored with encrypted fields, opened or not."""
    return _ENCRYPTED in event


def subjects_of(events: Iterable[Mapping[str, Any]]) -> set[str]:
    """Whose keys are needed to open the events."""
    return {event["account_id"] for event in events if is_encrypted(event)}


def has_any(body: Mapping[str, Any], fields: Collection[str]) -> bool:
    """Whether the body of an event has one of these fields."""
    return any(body.get(name) is not None for name in fields)


def encrypted(event: Event, fields: Collection[str], key: SubjectKey) -> Event:
    """The event as it is to be stored, of a command whose events have personal fields: this one
    these, if they are there. The event itself if it has nothing to hide.

    Raises `TypeError` if a field is no text.
    """
    rest, own = {**event["body"]}, {}
    for name in fields:
        if rest.get(name) is not None:
            own[name] = rest.pop(name)
            if not isinstance(own[name], str):
                raise TypeError(f"{event['kind']}: the personal field {name} is no text")
    if not own and "request" not in event:
        return event
    content: dict[str, Any] = {"body": own}
    stored: Any = {**event, "body": rest}
    if "request" in stored:
        content["request"] = stored.pop("request")
    data = ciphertext(orjson.dumps(content), key.key, _place(event))
    stored["encrypted"] = {"since": key.since, "fields": [*own], "data": data}
    return cast(Event, stored)


def with_content_of(stored: Event, event: Event) -> Event:
    """What a reader will have of the stored event, which was encrypted just now."""
    if stored is event:
        return event
    read: Any = {**stored, "body": event["body"]}
    if "request" in event:
        read["request"] = event["request"]
    return cast(Event, Opened(read, stored))


def opened(event: E, subject: Subject | None) -> E:
    """The event with its personal fields or with `FORGOTTEN`, in its newest schema.

    An event that can't be opened stays as it is: its key is lost, or somebody has changed it.
    """
    source = before_upcast(event)
    if is_opened(event) or subject is None:
        return event
    try:
        clear = _clear(source, subject)
    except Exception:  # people can write anything into the store
        return event
    return upcast(cast(E, Opened({**source, **clear}, source)))


def withheld(event: E) -> E:
    """The event with `WITHHELD` in the place of its personal fields, whatever their key is."""
    stored = as_stored(event)
    body = {**dict.fromkeys(_fields(stored), WITHHELD), **stored["body"]}
    return upcast(cast(E, Opened({**stored, "body": body}, stored)))


def require_opened(event: Mapping[str, Any]) -> None:
    """Raise `Unreadable` unless the personal fields are there, or forgotten."""
    if not is_opened(event):
        raise Unreadable("its personal fields can't be decrypted: their key is lost")


def ciphertext(data: bytes, key: bytes, place: str) -> str:
    """The data encrypted, bound to a place. The length tells multiples of 64 bytes alone."""
    padded, nonce = data.ljust(-(-len(data) // _BLOCK) * _BLOCK), os.urandom(_NONCE_BYTES)
    # Not by `nacl.secret.Aead`, which takes half as long again: each new account waits for this.
    hidden = crypto_aead_xchacha20poly1305_ietf_encrypt(padded, place.encode(), nonce, key)
    return urlsafe_b64encode(nonce + hidden).decode()


def decrypted(data: str, key: bytes, place: str) -> bytes:
    """What was encrypted. Raises what the library raises for what is changed."""
    raw = urlsafe_b64decode(data)
    nonce, hidden = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
    return crypto_aead_xchacha20poly1305_ietf_decrypt(hidden, place.encode(), nonce, key)


def _clear(event: Mapping[str, Any], subject: Subject) -> dict[str, Any]:
    """The members of the opened event that differ from those of the stored one."""
    about: Any = event[_ENCRYPTED]
    if subject.since > about["since"]:
        return {"body": {**dict.fromkeys(_fields(event), FORGOTTEN), **event["body"]}}
    content = orjson.loads(decrypted(about["data"], subject.keys[about["since"]], _place(event)))
    return {**content, "body": {**content["body"], **event["body"]}}


def _fields(event: Mapping[str, Any]) -> list[str]:
    about: Any = event[_ENCRYPTED]
    return [str(name) for name in about["fields"]]


def _place(event: Mapping[str, Any]) -> str:
    """Where the ciphertext belongs: at no other place it can be decrypted."""
    return f"{event['account_id']}/{event['version']}/{event['kind']}"
