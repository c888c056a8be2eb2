"""A little of PromQL, enough for the alert rules: parsed by a real parser, evaluated on samples.

What is not here raises `NotImplementedError`; nothing is guessed. `increase` and `rate` add up what
was counted between samples and do not extrapolate, which changes no comparison with 0.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
Samples = Mapping[tuple[str, Labels], float]
Vector = dict[Labels, float]


class Moment(NamedTuple):
    """What was scraped at a time, in seconds."""

    at: float
    samples: Samples


_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def _greatest(values: list[float]) -> float:
    """NaN only if all are, as in Prometheus."""
    known = [value for value in values if not math.isnan(value)]
    return max(known, default=math.nan)


_AGGREGATE: Final[dict[str, Callable[[list[float]], float]]] = {
    "sum": sum,
    "max": _greatest,
    "count": len,
}


def evaluate(expression: str, history: list[Moment]) -> Vector:
    """The vector that an expression gives at the last moment."""
    found = _value(promql.parse(expression), history)
    assert isinstance(found, dict), f"a vector: {expression}"
    return found


def selectors(expression: str) -> Iterator[promql.VectorSelector]:
    """Every selector in an expression, those of ranges too."""
    for node in _nodes(promql.parse(expression)):
        if isinstance(node, promql.VectorSelector):
            yield node


def grouped(expression: str) -> Iterator[tuple[set[str], promql.AggregateExpr]]:
    """Every aggregation with the labels that it keeps."""
    for node in _nodes(promql.parse(expression)):
        if isinstance(node, promql.AggregateExpr):
            yield set(node.modifier.labels if node.modifier else ()), node


def selects(selector: promql.VectorSelector, name: str, labels: Labels) -> bool:
    """Whether a selector takes that sample."""
    told = dict(labels)
    return name == selector.name and all(
        _matches(each, told.get(each.name, "")) for each in selector.matchers.matchers
    )


def _matches(matcher: promql.Matcher, value: str) -> bool:
    match matcher.op:
        case promql.MatchOp.Equal:
            return value == matcher.value
        case promql.MatchOp.NotEqual:
            return value != matcher.value
        case promql.MatchOp.Re:
            return re.fullmatch(matcher.value, value) is not None
    return re.fullmatch(matcher.value, value) is None


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield from _nodes(child)
    for argument in getattr(node, "args", ()):
        yield from _nodes(argument)


def _value(node: Any, history: list[Moment]) -> float | Vector:
    match node:
        case promql.NumberLiteral():
            return float(node.val)
        case promql.ParenExpr():
            return _value(node.expr, history)
        case promql.VectorSelector():
            return _selected(node, history[-1].samples)
        case promql.AggregateExpr():
            return _aggregated(node, history)
        case promql.Call():
            return _called(node, history)
        case promql.BinaryExpr():
            return _combined(node, history)
    raise NotImplementedError(type(node).__name__)


def _selected(selector: promql.VectorSelector, samples: Samples) -> Vector:
    return {
        labels: value
        for (name, labels), value in samples.items()
        if selects(selector, name, labels)
    }


def _aggregated(node: promql.AggregateExpr, history: list[Moment]) -> Vector:
    keep = set(node.modifier.labels) if node.modifier else set()
    if node.modifier and node.modifier.type != promql.AggModifierType.By:
        raise NotImplementedError("without")
    groups: dict[Labels, list[float]] = {}
    values = _value(node.expr, history)
    assert isinstance(values, dict)
    for labels, value in values.items():
        group = frozenset(each for each in labels if each[0] in keep)
        groups.setdefault(group, []).append(value)
    if str(node.op) not in _AGGREGATE:
        raise NotImplementedError(str(node.op))
    return {group: _AGGREGATE[str(node.op)](each) for group, each in groups.items()}


def _called(node: promql.Call, history: list[Moment]) -> Vector:
    (argument,) = node.args
    match node.func.name:
        case "vector":
            value = _value(argument, history)
            assert isinstance(value, float)
            return {frozenset(): value}
        case "absent":
            return {} if _value(argument, history) else {frozenset(): 1.0}
        case "increase":
            return _increase(argument, history)
    raise NotImplementedError(node.func.name)


def _increase(matrix: promql.MatrixSelector, history: list[Moment]) -> Vector:
    """A counter that is lower than before began anew at 0; one sample alone tells nothing."""
    since = history[-1].at - matrix.range.total_seconds()
    seen: dict[Labels, list[float]] = {}
    for moment in history:
        if moment.at > since:
            for labels, value in _selected(matrix.vector_selector, moment.samples).items():
                seen.setdefault(labels, []).append(value)
    return {
        labels: sum(b - a if b >= a else b for a, b in pairwise(values))
        for labels, values in seen.items()
        if len(values) > 1
    }


def _combined(node: promql.BinaryExpr, history: list[Moment]) -> Vector:
    left, right = _value(node.lhs, history), _value(node.rhs, history)
    name = str(node.op)
    if name == "or" and isinstance(left, dict) and isinstance(right, dict):
        return {**right, **left}
    if name in _COMPARE and isinstance(left, dict) and isinstance(right, float):
        return {labels: each for labels, each in left.items() if _COMPARE[name](each, right)}
    raise NotImplementedError(str(node))
