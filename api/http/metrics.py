"""Counts and times HTTP requests by route, for `/metrics`. A route is a template, never a path."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.support.histogram import SECONDS, Histogram
from pipeline.support.metrics import Metric, buckets, counter, histogram

METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER: Final = "other"
"""The label of an unknown route, and of an unusual method: clients must not create labels."""


class Requests:
    """Requests by route, method and status, and their durations."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._refused = dict.fromkeys(("401", "403"), 0)

    def note(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count an answer; no seconds for a stream, which lasts as long as its client stays."""
        self._answers[route, method, str(status)] += 1
        if (refused := str(status)) in self._refused:
            self._refused[refused] += 1
        if seconds is not None:
            self._seconds.setdefault((route, method), Histogram(SECONDS)).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        answers = counter(
            "bank_http_requests",
            "HTTP requests answered, by template of the route",
            labels=["route", "method", "status"],
        )
        for labels, number in self._answers.items():
            answers.add_metric(labels, number)
        yield answers
        refused = counter(
            "bank_http_refused",
            "Requests refused: 401 without a key that is known, 403 with one that may not do it",
            labels=["status"],
        )
        for status, number in self._refused.items():
            refused.add_metric([status], number)
        yield refused
        seconds = histogram(
            "bank_http_request_seconds",
            "Time from a request's head to its answer",
            labels=["route", "method"],
        )
        for route, values in self._seconds.items():
            seconds.add_metric(route, buckets(values), values.sum)
        yield seconds


def middleware(requests: Requests) -> Middleware:
    """Counts every answer. It must be the outermost, to see the answers made of exceptions."""

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        response = await handler(request)
        method = request.method if request.method in METHODS else OTHER
        whole = isinstance(response, web.Response)
        seconds = time.perf_counter() - began if whole else None
        requests.note(route_of(request), method, response.status, seconds)
        return response

    return measure


def route_of(request: web.Request) -> str:
    """The template of the route, or `OTHER`."""
    resource = request.match_info.route.resource
    return OTHER if resource is None else resource.canonical
