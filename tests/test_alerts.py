"""Alert rules and dashboard: of metrics and labels that roles tell, and each rule can fire."""

import asyncio
import json
import math
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import promql_parser as promql
import pytest
import yaml

from pipeline.embedded.health import WELL, ready
from pipeline.embedded.up import accounts_url, balances_url
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.ports import free_port
from tests.promql import Labels, Moment, Samples, Vector, evaluate, grouped, selectors, selects
from tests.scrape import scrape

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "bank.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "monitoring.md"
OF_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus puts on what it scrapes."""
OF_GROUPS = {"process"}
"""Labels of roles that are several processes; elsewhere a legend leaves them out."""
NAN = math.nan


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return board


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def shown() -> Iterator[tuple[str, str]]:
    """Expression and legend of everything on the dashboard, its variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$job", "bank")
            assert "$" not in expression, expression
            yield expression, target["legendFormat"]


# ------------------------------------------------------------------ on what roles really tell


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_rules_and_panels_on_the_metrics_of_a_running_bank(
    settings: Settings, role: Callable[..., Awaitable[Role]]
) -> None:
    told = await scraped(settings, role)
    for expression, labels in [
        *((rule["expr"], used(rule["annotations"])) for rule in rules()),
        *(
            (expression, set(re.findall(r"{{(\w+)}}", legend)) - OF_GROUPS)
            for expression, legend in shown()
        ),
    ]:
        exists(expression, labels, told)
    well = {**told, **sample("bank_forwarder_token_age_seconds", 100, **FORWARDER)}
    assert fire([Moment(0, well), Moment(60, well)]) == {}
    for name, (change, told_of) in CAUSES.items():
        fired = fire([Moment(0, well), Moment(60, change(well))])
        assert fired.keys() == {name}
        assert [dict(each) for each in fired[name]] == [told_of], name
    assert CAUSES.keys() == {rule["alert"] for rule in rules()}
    no_forwarder = {each: well[each] for each in well if not each[0].startswith("bank_forwarder")}
    assert fire([Moment(0, well), Moment(60, no_forwarder)]).keys() == {"BankNoLeader"}
    no_worker = without("bank_process_leading")(well)
    assert fire([Moment(0, well), Moment(60, no_worker)]).keys() == {"BankProcessUnled"}


async def scraped(settings: Settings, role: Callable[..., Awaitable[Role]]) -> Samples:
    """All four roles at work, with the labels that Prometheus adds."""
    ports = {"forwarder": free_port(), "worker": free_port()}
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    addresses |= {"accounts": accounts_url(settings), "balances": balances_url(settings)}
    for name in addresses:
        await role("bank", name, BANK_METRICS_PORT=str(ports.get(name, 0)))

    async def well() -> bool:
        return set(await asyncio.gather(*map(ready, addresses.values()))) == {WELL}

    await eventually(well, seconds=120, message="all roles are ready")
    async with aiohttp.ClientSession() as http:
        url = f"{addresses['accounts']}/create"
        async with http.post(url, json={"owner": "Ann", "money": 5}) as answer:
            assert answer.status == 201
    found: dict[tuple[str, Labels], float] = {}

    async def applied() -> bool:
        for name, address in addresses.items():
            found.update(sample("up", 1, job="bank", instance=name))
            for (metric, labels), value in (await scrape(address)).samples.items():
                found.update(sample(metric, value, **dict(labels), job="bank", instance=name))
        lags = [value for (name, _), value in found.items() if name == "bank_partition_lag_events"]
        led = [value for (name, _), value in found.items() if name == "bank_process_leading"]
        return len(lags) == settings.partitions and not any(lags) and any(led)

    await eventually(applied, message="all is applied, and told to be")
    return found


def sample(name: str, value: float, /, **labels: str) -> dict[tuple[str, Labels], float]:
    return {(name, frozenset(labels.items())): value}


def exists(expression: str, labels: set[str], told: Samples) -> None:
    """Each selector takes a sample; the labels that are kept and shown are labels of it."""
    for selector in selectors(expression):
        assert any(selects(selector, *each) for each in told), f"{selector} in {expression}"
    for kept, aggregation in grouped(expression):
        for selector in selectors(str(aggregation.expr)):
            assert kept <= labels_of(selector, told), expression
    known = [labels_of(selector, told) for selector in selectors(expression)]
    kept_by = [kept for kept, _ in grouped(expression)]
    assert labels <= set[str]().union(*(kept_by or known)), expression


def labels_of(selector: promql.VectorSelector, told: Samples) -> set[str]:
    """The labels that every sample has which the selector takes."""
    return set.intersection(*({k for k, _ in each[1]} for each in told if selects(selector, *each)))


def used(annotations: Mapping[str, str]) -> set[str]:
    return set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))


def fire(history: list[Moment]) -> dict[str, Vector]:
    found = {rule["alert"]: evaluate(rule["expr"], history) for rule in rules()}
    return {name: vector for name, vector in found.items() if vector}


# ------------------------------------------------------------------ what each one fires for

Change = Callable[[Samples], Samples]
FORWARDER = {"job": "bank", "instance": "forwarder"}
ONE = {"projection": "balance", "partition": "1"}


def to(name: str, value: float, also: Change | None = None, /, **labels: str) -> Change:
    """What was scraped, with another value where the labels are these; there is such a sample."""

    def change(samples: Samples) -> Samples:
        changed = {
            each: value
            for each in samples
            if each[0] == name and frozenset(labels.items()) <= each[1]
        }
        assert changed, f"{name} {labels}"
        return {**(also(samples) if also else samples), **changed}

    return change


def without(name: str) -> Change:
    return lambda samples: {each: samples[each] for each in samples if each[0] != name}


def second_leader(samples: Samples) -> Samples:
    return {**samples, **sample("bank_forwarder_leading", 1, job="bank", instance="other")}


CAUSES: dict[str, tuple[Change, dict[str, str]]] = {
    "BankDown": (to("up", 0, instance="worker"), {"job": "bank", "instance": "worker"}),
    "BankNotReady": (
        to("bank_ready", 0, role="worker", need="redis"),
        {"job": "bank", "instance": "worker", "role": "worker", "need": "redis"},
    ),
    "BankWarning": (
        to("bank_warning", 1, role="forwarder", need="nats"),
        {"job": "bank", "instance": "forwarder", "role": "forwarder", "need": "nats"},
    ),
    "BankStoreUnguarded": (
        to("bank_ready", 0, role="accounts", need="guards"),
        {"job": "bank", "instance": "accounts", "role": "accounts", "need": "guards"},
    ),
    "BankNoLeader": (to("bank_forwarder_leading", 0), {}),
    "BankManyLeaders": (second_leader, {}),
    "BankTokenOld": (to("bank_forwarder_token_age_seconds", 3601), {}),
    "BankResync": (to("bank_forwarder_resyncs_total", 9), {}),
    "BankEventsSkipped": (to("bank_forwarder_skipped_total", 1), {}),
    "BankLag": (to("bank_partition_lag_seconds", 30.1, **ONE), ONE),
    "BankLagUnknown": (
        to("bank_partition_lag_known", 0, to("bank_partition_lag_seconds", NAN, **ONE), **ONE),
        ONE,
    ),
    "BankLagUntold": (without("bank_partition_lag_known"), {}),
    "BankPartitionUnowned": (to("bank_partition_owned", 0, **ONE), ONE),
    "BankRebuildStuck": (
        to("bank_rebuild_still_seconds", 601, projection="balance"),
        {"projection": "balance"},
    ),
    "BankProcessUnled": (to("bank_process_leading", 0), {"name": "holds"}),
    "BankProcessOverdue": (to("bank_process_overdue_seconds", 31), {"name": "holds"}),
    "BankProcessParked": (to("bank_process_parked", 1), {"name": "holds"}),
    "BankRequestsRefused": (
        to("bank_http_refused_total", 101, instance="accounts", status="401"),
        {"job": "bank", "instance": "accounts", "status": "401"},
    ),
    "BankAuditLinesLost": (
        to("bank_audit_lost_lines_total", 1, instance="accounts"),
        {"job": "bank", "instance": "accounts"},
    ),
    "BankParkedAccounts": (to("bank_parked_accounts", 1, **ONE), ONE),
}


# ------------------------------------------------------------------ how they are written


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"Bank[A-Z]\w+", rule["alert"])
    assert promql.parse_duration(rule.get("for", "1s")) <= timedelta(minutes=5)
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"`{rule['alert']}`" in DOCUMENT.read_text()


def test_no_alert_has_two_rules() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_promtool_itself_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_panels_have_titles_of_their_own_and_do_not_overlap() -> None:
    every = dashboard()["panels"]
    for key in ("id", "title"):
        assert len({panel[key] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in every):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


def test_every_panel_asks_the_source_that_the_reader_chose() -> None:
    variables = {each["name"] for each in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "job"}
    for panel in panels():
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0


# ------------------------------------------------------------------ the evaluator itself


HISTORY = [
    Moment(0, {**sample("a", 1, x="1"), **sample("n_total", 5)}),
    Moment(10, {**sample("a", 1, x="1"), **sample("n_total", 2)}),
    Moment(
        20,
        {**sample("a", 3, x="1"), **sample("a", NAN, x="2"), **sample("n_total", 4)},
    ),
]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("a", {"1": 3, "2": NAN}),
        ("a > 2", {"1": 3}),
        ("a > 3", {}),
        ('a{x="2"} == 0', {}),
        ('a{x!="2"}', {"1": 3}),
        ('a{x=~"1|3"}', {"1": 3}),
        ('a{x!~"1|3"} < 1', {}),
        ("max(a)", {"": 3}),
        ("sum(a) > 0", {}),
        ("count(a)", {"": 2}),
        ("max by (x) (a) >= 3", {"1": 3}),
        ("sum(b) or vector(7)", {"": 7}),
        ("max(a) or vector(7)", {"": 3}),
        ("absent(a)", {}),
        ("absent(b)", {"": 1}),
        ("increase(n_total[1h])", {"": 4}),
        ("increase(n_total[15s])", {"": 2}),
        ("increase(n_total[5s])", {}),
    ],
)
def test_expressions_have_the_values_that_prometheus_gives(
    expression: str, values: dict[str, float]
) -> None:
    found = {
        dict(labels).get("x", ""): value for labels, value in evaluate(expression, HISTORY).items()
    }
    assert found == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize("expression", ["a + a", "min(a)", "rate(n_total[1m])", "-a"])
def test_what_is_not_evaluated_is_said(expression: str) -> None:
    with pytest.raises(NotImplementedError):
        evaluate(expression, HISTORY)
