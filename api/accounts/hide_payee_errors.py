"""Hides from customers what belongs to others: errors of a payee's account, and idempotency
keys."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from api.http.headers import idempotency_key
from api.http.problems import Problem
from api.security.guard import customers_account
from pipeline.commands import AggregateUnreadable
from pipeline.model.aggregate import Refused
from pipeline.model.events import ACCOUNT_ID

_LIKE_A_CUSTOMERS: Final = re.compile(f"/*{ACCOUNT_ID}/")


@contextmanager
def hide_payee_errors(payee: str) -> Iterator[bool]:
    """Problem 422 `payee-refused` in place of any error of the payee, if a customer asks; whether
    one does."""
    hides = customers_account() is not None
    try:
        yield hides
    except (Refused, AggregateUnreadable) as error:
        if hides and error.aggregate_id == payee:
            raise Problem(422, "payee-refused", "That account can't be paid.") from error
        raise


def scoped_key(request: web.Request) -> str | None:
    """The request's idempotency key; problem 400.

    A customer's keys are in a scope of their own; otherwise one customer could block or probe the
    keys of others. The scope is the account, because the API key is replaced now and then. Others'
    keys that look like one of that scope get a slash before them.
    """
    key, own = idempotency_key(request), customers_account()
    if key is None:
        return None
    if own:
        return f"{own}/{key}"
    return f"/{key}" if _LIKE_A_CUSTOMERS.match(key) else key


def former_key(key: str | None) -> str | None:
    """What `scoped_key` made of the request's key in earlier releases, if that was another."""
    return key[1:] if key and key.startswith("/") and _LIKE_A_CUSTOMERS.match(key) else None
