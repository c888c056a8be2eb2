"""Whose key a request bears: the keys of `FollowedKeys`, and the problems of requests without."""

from typing import Final

from aiohttp import web

from api.http.problems import Problem, unavailable
from pipeline.operations.followed_keys import FollowedKeys
from pipeline.operations.keys import Key
from pipeline.support.readiness import NotReady

_ASKING: Final = {"WWW-Authenticate": 'Bearer realm="bank"'}
_REFUSING: Final = {"WWW-Authenticate": 'Bearer realm="bank", error="invalid_token"'}
_UNKNOWN: Final = "There is no such key, or it was revoked."


class Keyring(FollowedKeys):
    """Every request is refused until the keys were read once."""

    def holder(self, request: web.Request) -> Key:
        """The key of the request; problem 401, or 503 `keys-unavailable`."""
        self._require_known()
        given = request.headers.getall("Authorization", [])
        if len(given) > 1:
            raise Problem(400, "invalid-authorization", "Send one header Authorization.")
        authorization = "".join(given)
        if not authorization.partition(" ")[0]:
            detail = "This takes a key: Authorization: Bearer bank_…"
            raise Problem(401, "key-required", detail, headers=_ASKING)
        # One answer to all faults: only who has the secret may learn that the key has expired.
        key = self.opened(authorization)
        if key is None:
            raise _refused(_UNKNOWN)
        _require_unexpired(key)
        return key

    def require(self, key: Key) -> None:
        """Problem 401 or 503 unless the key, as it was, would still be let in."""
        self._require_known()
        if not self.has(key):
            raise _refused(_UNKNOWN)
        _require_unexpired(key)

    async def ping(self) -> None:
        """Raise `NotReady` unless the keys were read lately."""
        if not self.known():
            raise NotReady("the keys were not read")

    def _require_known(self) -> None:
        if not self.known():
            raise unavailable("keys-unavailable", "The keys can't be read: nobody can be let in.")


def _require_unexpired(key: Key) -> None:
    if key.expired:
        raise _refused(f"Key {key.id} has expired.")


def _refused(detail: str) -> Problem:
    return Problem(401, "key-invalid", detail, headers=_REFUSING)
