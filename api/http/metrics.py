"""Counts and times HTTP requests by route, for `/metrics`. A route is a template, never a path."""

import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram

from pipeline.support.metrics import SECONDS, RefusedRequests, totals
from pipeline.support.self_report import Work

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER: Final = "other"
"""The label of an unknown route, and of an unusual method: clients must not create labels."""


class Requests:
    """Requests by route, method and status, and their durations."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = answers = Counter(
            "bank_http_requests",
            "HTTP requests answered, by template of the route",
            ("route", "method", "status"),
            registry=registry,
        )
        self._refused = RefusedRequests(registry)
        self._histogram = seconds = Histogram(
            "bank_http_request_seconds",
            "Time from a request's head to its answer",
            ("route", "method"),
            buckets=SECONDS,
            registry=registry,
        )
        # The library checks and joins the labels each time. There are few: clients create none.
        self._answers, self._seconds = cache(answers.labels), cache(seconds.labels)

    def note(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count an answer; no seconds for a stream, which lasts as long as its client stays."""
        self._answers(route, method, status).inc()
        self._refused.note(status)
        if seconds is not None:
            self._seconds(route, method).observe(seconds)

    def work(self, commands: Callable[[], Mapping[str, float]] | None) -> Work:
        """What a service has done: its commands, if it takes some; else all its requests."""
        if commands is not None:
            return Work(commands, self._commands_by_seconds)
        return Work(lambda: {"": sum(totals(self._counter, "status").values())})

    def _commands_by_seconds(self) -> list[float]:
        """How many took at most as long as each of `SECONDS`, and how many there were."""
        buckets = dict.fromkeys([*map(float, SECONDS), math.inf], 0.0)
        for sample in (each for family in self._histogram.collect() for each in family.samples):
            if "le" in sample.labels and sample.labels["method"] not in _READING:
                buckets[float(sample.labels["le"])] += sample.value
        return list(buckets.values())


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
