"""OpenTelemetry spans of requests, appends, forwarded and applied batches, if BANK_TRACES says so.

If off, which is the default, nothing of OpenTelemetry is imported, and events carry nothing of it.
If on, an event carries the `traceparent` of its request, and OpenTelemetry's own variables
(`OTEL_…`) set where the spans go and how many.

A span about the events of one request is part of its trace; one about several links to each.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.support import correlation
from pipeline.support.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

FIELD: Final = "traceparent"
"""Of an event: the W3C header of its request's span."""
MOST: Final = 128
"""Links of a span: by default the SDK keeps no more."""

_NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_NOTHING: Final = nullcontext()

Kind = Literal["INTERNAL", "PRODUCER", "CONSUMER"]

_tracer: "Tracer | None" = None


def require(settings: Settings) -> None:
    """Raise `SettingsError` if spans are on and can't be."""
    if settings.traces == "otlp" and not all(map(_installed, _NEEDED)):
        raise SettingsError(
            "BANK_TRACES: otlp needs OpenTelemetry, which is not installed: "
            "pip install 'bank-transfer[otel]'"
        )


def setup(settings: Settings, role: str) -> None:
    """Send this process's spans where OTEL_EXPORTER_OTLP_ENDPOINT says. Raises `SettingsError`."""
    require(settings)
    if settings.traces == "off":
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {
        "service.name": f"{settings.names.application}-{role}",
        "service.version": version("bank-transfer"),
    }
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Globally, because Elasticsearch's own client makes spans of its requests.
    trace.set_tracer_provider(provider)
    use(provider.get_tracer("bank-transfer", version("bank-transfer")))


def use(tracer: "Tracer | None") -> None:
    """Make spans with this tracer; None: make none."""
    global _tracer
    _tracer = tracer


def on() -> bool:
    return _tracer is not None


# ------------------------------------------------------------------ about events


def carrying(
    name: str, events: Sequence[Any], kind: Kind = "INTERNAL"
) -> AbstractContextManager[object]:
    """A span around the work on these events."""
    if _tracer is None or not events:
        return _NOTHING
    return _carrying(_tracer, name, events, kind)


def traceparent() -> str | None:
    """The header of the span that this task is in, or None."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(FIELD)


@contextmanager
def _carrying(tracer: "Tracer", name: str, events: Sequence[Any], kind: Kind) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind

    parent, links = _origins(events)
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=SpanKind[kind],
        links=links,
        attributes={"bank.events": len(events)},
    ) as span:
        yield span


def _origins(events: Sequence[Any]) -> "tuple[Context, list[Link]]":
    """The span that all events come from, as the parent; or links to several."""
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = (each.get(FIELD) for each in events)
    found = list(dict.fromkeys(each for each in given if isinstance(each, str)))[:MOST]
    read = TraceContextTextMapPropagator().extract
    contexts = [read({FIELD: each}, Context()) for each in found]
    if len(contexts) == 1:
        return contexts[0], []
    spans = [get_current_span(each).get_span_context() for each in contexts]
    return Context(), [Link(each) for each in spans if each.is_valid]


# ------------------------------------------------------------------ about requests


class Request:
    """The span of a request that is served."""

    def __init__(self, span: "Span") -> None:
        self._span = span

    def answered(self, status: int) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def request(method: str, route: str, headers: Mapping[str, str]) -> Iterator[Request]:
    """A span of a request, in the trace that its headers name. Only while spans are `on`."""
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    assert _tracer is not None
    with _tracer.start_as_current_span(
        f"{method} {route}".strip(),
        context=propagate.extract(headers),
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": method,
            "http.route": route,
            "bank.correlation_id": correlation.current() or "",
        },
    ) as span:
        yield Request(span)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
