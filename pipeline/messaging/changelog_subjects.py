"""Keys of a Faust table as the subjects of its changelog have them: `{table}.{partition}.{key}`."""

import base64


def encode_key(key: bytes) -> str:
    """A key as one token of a subject, or as a header's value."""
    return base64.urlsafe_b64encode(key).decode().rstrip("=") or "_"


def decode_key(text: str) -> bytes:
    """The inverse of `encode_key`."""
    return b"" if text == "_" else base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_in(subject: str) -> bytes:
    """The key of a changelog's message."""
    return decode_key(subject.rsplit(".", 1)[-1])
