"""Requests made from a service's own description, sent to it, and its answers held against that."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.harness import rounds

_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

Change = Callable[[Case[Any]], None]


def fuzz(url: str, document: dict[str, Any], change: Change) -> Counter[tuple[str, int]]:
    """Send sound and unsound requests of each operation; counts the answers by route and status.

    `change` may turn a request into a likelier one before it is sent. Raises with what is wrong,
    and how to see it again, for an answer that is a 5xx or is not described.
    """
    seen: Counter[tuple[str, int]] = Counter()

    def send(case: Case[Any]) -> None:
        change(case)
        response = case.call(base_url=url, timeout=60)
        seen[case.operation.label, response.status_code] += 1
        case.validate_response(response, checks=_CHECKS)

    schema = schemathesis.openapi.from_dict(document)
    schema.config.max_stream_events = 1  # a stream may have no end
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        _each(result.ok(), send)
    return seen


def _each(operation: APIOperation[Any, Any, Any, Any], send: Callable[[Case[Any]], None]) -> None:
    modes = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    examples = settings(
        max_examples=rounds(10, 500),
        derandomize=not rounds(0, 1),
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    examples(given(st.one_of(modes))(send))()
