"""What is different for customers: others' accounts and idempotency keys are not theirs to know."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from api.accounts.errors import AccountUnreadable, Refused
from api.http.headers import idempotency_key
from api.http.problems import Problem
from api.security.guard import customers_account


@contextmanager
def hide_payee_errors(payee: str) -> Iterator[None]:
    """Problem 422 `payee-refused` for whatever keeps another's account from being paid."""
    try:
        yield
    except (Refused, AccountUnreadable) as error:
        if customers_account() is not None and error.account_id == payee:
            raise Problem(422, "payee-refused", "That account can't be paid.") from error
        raise


def scoped_key(request: web.Request) -> str | None:
    """The request's idempotency key; problem 400.

    A customer's are apart from everybody else's, whom they could keep from using one. They go with
    the account and not with the API key, which is replaced now and then.
    """
    key, own = idempotency_key(request), customers_account()
    return f"{own}/{key}" if own and key else key
