"""Reading `/metrics` in tests: samples by name and labels, and what each family is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as it is told: its name with `_total` for a counter, its type and its HELP."""

    name: str
    type: str
    meaning: str
    labels: frozenset[str]


@dataclass(slots=True)
class Scrape:
    """One reading of a role."""

    families: dict[str, Family] = field(default_factory=dict)
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one sample; KeyError when there is none."""
        return self.samples[name, frozenset(labels.items())]

    def label_values(self) -> set[str]:
        return {value for _, labels in self.samples for _, value in labels}


async def scrape(address: str, headers: Mapping[str, str] | None = None) -> Scrape:
    """What a role tells at its address now."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{address}/metrics", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return parsed(await answer.text())


def parsed(text: str) -> Scrape:
    found = Scrape()
    for each in text_string_to_metric_families(text):
        name = f"{each.name}_total" if each.type == "counter" else each.name
        labels = frozenset(label for sample in each.samples for label in sample.labels) - {"le"}
        assert name not in found.families, f"{name} is told twice"
        found.families[name] = Family(name, each.type, each.documentation, labels)
        for sample in each.samples:
            found.samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return found
