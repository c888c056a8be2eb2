"""Run the README's lines for Compose as they stand, and use, hurt and check what each brings up.

    .venv/bin/python scripts/with_docker.py .venv/bin/python -m tests.compose

Its containers and volumes are of a project of its own, and are removed at the end; its ports are
those of compose.yaml, so that no bank can run beside it.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from tests.compose.lines import PROJECT, ROOT, Failed, line, of_readme, until
from tests.compose.teller import Refused, Teller, asked

MINUTES: Final = 60.0
ROLES: Final = ("forwarder", "worker", "accounts", "balances")
UP_SECONDS: Final = 15 * MINUTES
PROMETHEUS: Final = "http://127.0.0.1:9090/api/v1"
GRAFANA: Final = "http://127.0.0.1:3000"
KIBANA: Final = "http://127.0.0.1:5601"
KILL: Final = "python -c 'import os; os.kill(-1, 9)'"
LEADS: Final = "bank_forwarder_leading 1.0"
OURS: Final = "--filter label=com.docker.compose.project"
OF_ROLE: Final = "--filter label=com.docker.compose.service"
STATE: Final = "'{{.State.StartedAt}} {{.State.Health.Status}}'"
METRICS: Final = (
    "python -c 'import urllib.request as r; "
    'asked = r.Request("http://127.0.0.1:9400/metrics", headers=HEADERS); '
    "print(r.urlopen(asked).read().decode())'"
)


def plain(_: str) -> None:
    """Money moves, while a container of every role and server is killed; then all is verified."""
    teller = Teller()
    teller.open()
    teller.move()
    for role in ROLES:
        hurt(role, teller)
    for server in ("redis", "nats", "mongo", "elasticsearch"):
        line(f"docker compose kill {server}")
        line(f"docker compose start {server}")
        teller.move()
    verified("forwarder")
    line(f"{of('worker')} python -c 'import opentelemetry.exporter.otlp.proto.http'")


def observed(_: str) -> None:
    """Prometheus has every replica, our rules and a figure for the dashboard; Grafana shows it."""
    until("6 targets", lambda: scraped() == 6)
    groups = asked(f"{PROMETHEUS}/rules")["data"]["groups"]
    rules = [rule for group in groups if group["name"] == "bank" for rule in group["rules"]]
    wrong = [rule["name"] for rule in rules if rule["health"] == "err"]
    if not rules or wrong:
        raise Failed(f"{len(rules)} rules, of which {wrong} can't be evaluated")
    board = asked(f"{GRAFANA}/api/dashboards/uid/bank-transfer")["dashboard"]
    expressions = {
        target["expr"] for panel in board["panels"] for target in panel.get("targets", ())
    }
    for expression in expressions:
        filled = expression.replace("$__rate_interval", "1m").replace("$job", "bank")
        asked(f"{PROMETHEUS}/query?query={quote(filled)}")
    leading = asked(f"{PROMETHEUS}/query?query=sum(bank_forwarder_leading)")["data"]["result"]
    print(f"{len(rules)} rules, {len(expressions)} expressions of the dashboard, 6 targets")
    if leading[0]["value"][1] != "1":
        raise Failed(f"so many forwarders lead: {leading}")


def scraped() -> int:
    targets = asked(f"{PROMETHEUS}/targets")["data"]["activeTargets"]
    return sum(target["health"] == "up" for target in targets)


def kibana(_: str) -> None:
    until("Kibana", lambda: asked(KIBANA))


def reported(said: str) -> None:
    if "balance-0" not in said:
        raise Failed(f"no consumer is reported:\n{said}")


def secure(_: str) -> None:
    """The same bank with keys, TLS and passwords."""
    key, watching = created("teller"), created("viewer")
    try:
        Teller().open()
    except Refused as error:
        print(f"without a key: {error}")
    else:
        raise Failed("an account was opened without a key")
    teller = Teller(key)

    def opened() -> bool:
        """A service knows a new key about a second after it was made."""
        try:
            teller.open()
        except Refused as error:
            raise Failed(str(error)) from error
        return True

    until("the new key", opened)
    teller.move()
    for role in ROLES:
        hurt(f"secure-{role}", teller, watching)
    verified("secure-forwarder")


def created(role: str) -> str:
    """A new key with the role."""
    made = line(f"{of('secure-forwarder')} bank keys create --role {role} --name me")
    key = re.search(r"bank_\S+", made)
    if key is None:
        raise Failed(f"no key:\n{made}")
    return key[0]


def of(role: str, number: int = 1) -> str:
    """The beginning of a line that runs a command in a container of the role."""
    profile = "--profile secure " if role.startswith("secure-") else ""
    return f"docker compose {profile}exec --index {number} {role}"


def hurt(role: str, teller: Teller, key: str = "") -> None:
    """Kill all processes in a container of the role, the leading forwarder's; it comes back. `key`:
    what reads metrics, where they take one."""
    before = started(role)
    numbers = range(1, len(before) + 1)
    number = next(each for each in numbers if "forwarder" not in role or leads(role, each, key))
    line(f"{of(role, number)} {KILL}", ends_well=False)
    teller.move()
    until(f"{role} was started anew", lambda: before.keys() != started(role).keys())
    until(f"{role} is well", lambda: set(started(role).values()) == {"healthy"})


def leads(role: str, number: int, key: str) -> bool:
    headers = json.dumps({"Authorization": f"Bearer {key}"} if key else {})
    asking = METRICS.replace("HEADERS", headers)
    return LEADS in line(f"{of(role, number)} {asking}", told=False)


def started(role: str) -> dict[str, str]:
    """When each container of a role was started, and its health."""
    listed = line(f"docker ps --all --quiet {OURS}={PROJECT} {OF_ROLE}={role}", told=False)
    said = line(f"docker inspect --format {STATE} {' '.join(listed.split())}", told=False)
    return dict(each.split() for each in said.splitlines())


def verified(role: str) -> None:
    print(line(f"{of(role)} bank verify", seconds=5 * MINUTES))


CHECKS: Final[dict[str, Callable[[str], None] | None]] = {
    "docker compose up --build --wait": plain,
    "docker compose --profile plain --profile observe up --wait": observed,
    "docker compose --profile plain --profile kibana up --detach": kibana,
    "docker compose run --rm nats-box nats consumer report balance": reported,
    'docker compose --profile "*" down': None,
    "docker compose --profile secure up --build --wait": secure,
}
"""The README's lines, and what must hold after each, told what it printed."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    made = ROOT / "deploy" / "secure" / "made"
    kept = made.exists()
    try:
        for text in of_readme():
            said = line(text, seconds=UP_SECONDS)
            if check := CHECKS[text]:
                check(said)
    except (Failed, Refused) as error:
        print(error)
        print(line('docker compose --profile "*" ps --all', ends_well=False))
        print(line('docker compose --profile "*" logs --tail 40', ends_well=False)[-20000:])
        return 1
    finally:
        line('docker compose --profile "*" down --volumes --timeout 30', ends_well=False)
        if not kept:
            shutil.rmtree(made, ignore_errors=True)
    print(f"Compose holds: {len(CHECKS)} lines of the README in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
