"""API keys: how they are made, what is stored of them, and how a secret is verified.

A client sends `bank_{id}_{secret}`. The KV bucket `keys` has an entry for each id, with the SHA-256
of the secret and never the secret itself. A slow hash would add nothing: a secret has 256 random
bits, which can't be guessed, unlike a password that people choose.
"""

import hmac
import re
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.messaging import JetStream
from pipeline.messaging.kv import Bucket, KeyValueEntry, Overtaken
from pipeline.model.events import ACCOUNT_ID
from pipeline.model.text import checked

BUCKET: Final = "keys"
USES: Final = "key-uses"
"""The bucket with the day of each key's last use."""
LONGEST_NAME: Final = 100

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TOKEN: Final = re.compile("bank_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class Role(StrEnum):
    """The role of a key's holder; `docs/security.md` says what each may do."""

    TELLER = "teller"
    VIEWER = "viewer"
    OPERATOR = "operator"
    CUSTOMER = "customer"


class Key(BaseModel):
    """A key as it is stored. `rate` is in requests a second, None: as in the services' settings.

    An unknown field is an error: it may be a limit, which must not be overlooked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    role: Role
    accounts: frozenset[Annotated[str, Field(pattern=f"^{ACCOUNT_ID}$")]] = frozenset()
    name: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    created: AwareDatetime
    expires: AwareDatetime | None = None
    rate: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _customers_have_accounts(self) -> Self:
        if (self.role is Role.CUSTOMER) != bool(self.accounts):
            raise ValueError("a customer has accounts, and nobody else has")
        return self

    @property
    def expired(self) -> bool:
        return self.expires is not None and self.expires <= datetime.now(UTC)

    def opened_by(self, secret: str) -> bool:
        """Whether this is the key's secret, compared in constant time."""
        return hmac.compare_digest(self.digest, _digest(secret))


def new(role: Role, *, name: str = "", **limits: Any) -> tuple[Key, str]:
    """A new key, and the token that its holder sends, which is known only here.

    `limits`: `accounts`, `expires`, `rate`. Raises `InvalidText` for the name, and pydantic's
    `ValidationError`.
    """
    # Not by the model: a key that has another name already goes on working.
    name = checked(name, LONGEST_NAME) if name else ""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    digest = _digest(secret)
    key = Key(id=key_id, digest=digest, role=role, name=name, created=now, **limits)
    return key, f"bank_{key_id}_{secret}"


def parted(token: str) -> tuple[str, str] | None:
    """The id and the secret in a token; None if it is malformed."""
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


def bucket(js: JetStream) -> Bucket:
    """The KV bucket of the keys."""
    return Bucket(js, BUCKET)


async def use(js: JetStream, key_id: str, day: str) -> bool:
    """Note that a key was used on a day, as 2026-01-31 (UTC); whether that is its first use then.

    Of many processes that note it at the same time one gets True.
    """
    uses = Bucket(js, USES)
    known = await uses.get(key_id)
    if known is not None and _day(known) >= day:
        return False
    try:
        await uses.put(key_id, {"day": day}, expected=known.revision if known else 0)
    except Overtaken:
        return False
    return True


async def last_uses(js: JetStream) -> dict[str, str]:
    """The day of each key's last use, by the key's id."""
    found = await Bucket(js, USES).entries()
    return {key_id: day for key_id, entry in found.items() if (day := _day(entry))}


def _day(entry: KeyValueEntry) -> str:
    """The day in an entry of `USES`; empty if it is none: somebody may have written it by hand."""
    day = entry.value.get("day")
    return day if isinstance(day, str) and _DAY.fullmatch(day) else ""


def value(key: Key) -> dict[str, Any]:
    """The value of a key's entry."""
    return key.model_dump(mode="json", exclude={"id"}, exclude_none=True)


def key_of(entry: KeyValueEntry) -> Key | None:
    """The key of an entry; None if the entry is invalid or of a newer release. Such a key lets
    nobody in."""
    try:
        return Key.model_validate({**entry.value, "id": entry.key})
    except ValidationError:
        return None


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
