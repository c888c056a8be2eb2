"""One page of the metrics of several processes, in both formats of Prometheus."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Counter, Histogram, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from pipeline.support.group_answers import merged
from pipeline.support.metrics import Metrics

Parse = Callable[[str], Iterable[Metric]]


def of_process(number: int) -> Metrics:
    metrics = Metrics("worker")
    registry = metrics.registry
    counter = Counter("bank_odd", "With { braces } and a\nline", ("of",), registry=registry)
    counter.labels('a "b" {c} d\ne').inc(number + 1)
    Counter("bank_plain", "Of no label", registry=registry).inc(10 + number)
    histogram = Histogram("bank_seconds", "Time", buckets=(1, 2), registry=registry)
    histogram.observe(number)
    return metrics


@pytest.mark.parametrize(
    ("accept", "parse"), [("", text), ("application/openmetrics-text; version=1.0.0", openmetrics)]
)
async def test_samples_are_those_of_every_process_each_with_its_label(
    accept: str, parse: Parse
) -> None:
    pages = {}
    for number in (0, 2):
        content, _ = await of_process(number).exposition(accept)
        pages[number] = content.decode()
    one = merged(pages, ['bank_ready{role="worker",need="process",process="1"} 0.0'])
    found = {family.name: family for family in parse(one)}
    wanted = {
        (sample.name, *sorted({**sample.labels, "process": str(number)}.items())): sample.value
        for number, page in pages.items()
        for family in parse(page)
        for sample in family.samples
    }
    wanted["bank_ready", ("need", "process"), ("process", "1"), ("role", "worker")] = 0
    assert wanted == {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in found.values()
        for sample in family.samples
    }
    for family in parse(pages[0]):
        same = found[family.name]
        assert (same.type, same.documentation) == (family.type, family.documentation)
    assert one.count("# TYPE bank_seconds histogram") == 1
    assert one.endswith("# EOF\n") == bool(accept)
