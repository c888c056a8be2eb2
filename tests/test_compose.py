"""compose.yaml and the Dockerfile, read as Compose reads them: what starts, on what, after what."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.main import main
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.support.settings import PREFIX, load
from tests.certificates import MAKE, make
from tests.compose.__main__ import CHECKS
from tests.compose.lines import of_readme
from tests.deployed import compose as compose_cluster

ROOT = Path(__file__).parents[1]
SERVERS = {"mongo", "nats", "redis", "elasticsearch"}
ROLES = {"forwarder", "worker", "accounts", "balances"}
SECURE_SERVERS = {"secure-mongodb", "secure-nats", "secure-redis", "secure-elasticsearch"}
SECURE = Path("/secure")
"""Where a container finds its part of what `deploy/secure/make.sh` makes."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    composed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services: dict[str, Any] = composed["services"]
    return services


def test_servers_and_roles_start_and_tools_wait_to_be_asked(services: dict[str, Any]) -> None:
    assert (ROOT / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=plain"
    profiles: dict[str, set[str]] = {}
    for name, service in services.items():
        (profile,) = service["profiles"]
        profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "plain": SERVERS | ROLES,
        "secure": SECURE_SERVERS | {f"secure-{role}" for role in ROLES} | {"secure-files"},
        "cluster": compose_cluster().nodes.keys() | {f"cluster-{role}" for role in ROLES},
        "observe": {"prometheus", "grafana"},
        "kibana": {"kibana"},
        "nats-box": {"nats-box"},
    }


def test_no_profile_needs_another(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed in service.get("depends_on", ()):
            wanted = {"plain"} if name in ("kibana", "nats-box") else set(service["profiles"])
            assert set(services[needed]["profiles"]) == wanted, name


def test_two_forwarders_and_two_workers(services: dict[str, Any]) -> None:
    assert services["forwarder"]["deploy"]["replicas"] == 2
    assert services["worker"]["deploy"]["replicas"] == 2


def test_all_roles_share_one_image_and_run_a_command_that_exists(services: dict[str, Any]) -> None:
    for role in ROLES:
        assert services[role]["image"] == "bank-transfer"
        assert services[role]["command"] == [role]
        assert role in main.commands


def test_one_service_of_a_profile_builds_the_image(services: dict[str, Any]) -> None:
    building = {name for name, service in services.items() if "build" in service}
    assert building == {"accounts", "secure-files", "cluster-accounts"}
    assert {services[name]["build"] for name in building} == {"."}


def test_whatever_goes_on_running_has_a_health_check(services: dict[str, Any]) -> None:
    for name in services.keys() - {"secure-files", "kibana", "nats-box"}:
        check = services[name]["healthcheck"]
        assert check["test"][0] == "CMD", name
        assert {"interval", "timeout", "retries"} <= check.keys(), name


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_is_asked_on_the_port_that_it_listens_on(
    services: dict[str, Any], role: str
) -> None:
    settings = load(services[role]["environment"])
    port = getattr(settings, f"{role}_port", settings.metrics_port)
    for name in (role, f"secure-{role}"):
        assert f"'http://127.0.0.1:{port}/readyz'" in services[name]["healthcheck"]["test"][-1]


def test_what_was_killed_comes_back(services: dict[str, Any]) -> None:
    for name in services.keys() - {"secure-files", "kibana", "nats-box"}:
        assert services[name]["restart"] == "unless-stopped", name


def test_whoever_needs_a_server_waits_until_it_is_healthy(services: dict[str, Any]) -> None:
    needed = {
        "forwarder": {"mongo", "nats", "redis"},
        "worker": SERVERS,
        "accounts": {"mongo"},
        "balances": {"elasticsearch"},
    }
    for role, servers in needed.items():
        waits = services[role]["depends_on"]
        assert waits.keys() == servers
        assert all(each == {"condition": "service_healthy"} for each in waits.values())


def test_the_roles_are_given_settings_that_exist_and_hosts_that_run(
    services: dict[str, Any],
) -> None:
    for role in ROLES:
        environment = services[role]["environment"]
        settings = load(environment)
        assert all(name.startswith(PREFIX) for name in environment)
        for url in (
            settings.mongodb_url,
            settings.nats_url,
            settings.redis_url,
            settings.elasticsearch_url,
        ):
            assert url.split("://")[1].split(":")[0] in SERVERS


def test_without_keys_ports_are_published_to_this_machine_alone(services: dict[str, Any]) -> None:
    assert load(services["accounts"]["environment"]).keys == "off-although-others-can-reach-it"
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert {"127.0.0.1:8000:8000", "127.0.0.1:8030:8030"} <= set(published)
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_metrics_of_every_replica_are_on_one_port(services: dict[str, Any]) -> None:
    for role in ("forwarder", "worker"):
        settings = load(services[role]["environment"])
        assert (settings.host, settings.metrics_port) == ("0.0.0.0", 9400)


def test_mongodb_becomes_a_replica_set_by_itself(services: dict[str, Any]) -> None:
    mongo = services["mongo"]
    assert "--replSet" in mongo["command"]
    assert "rs.initiate" in mongo["healthcheck"]["test"][-1]
    assert "replicaSet=rs0" in services["accounts"]["environment"]["BANK_MONGODB_URL"]


def test_jetstream_is_on_and_new_enough(services: dict[str, Any]) -> None:
    assert "--jetstream" in services["nats"]["command"]
    tag = services["nats"]["image"].split(":")[1].split("-")[0]
    assert tuple(map(int, tag.split("."))) >= (2, 14)


def test_data_outlives_the_containers(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["volumes"]
    for server in SERVERS | SECURE_SERVERS:
        assert services[server]["volumes"][0].split(":")[0] in volumes


def test_the_image_is_not_root_and_starts_bank() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    last_stage = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM")) :]
    user = next(line.split()[1] for line in last_stage if line.startswith("USER"))
    assert int(user) > 0
    assert 'ENTRYPOINT ["bank"]' in last_stage


def test_the_image_is_built_from_what_docker_is_given() -> None:
    given = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == given
    assert all((ROOT / name).exists() for name in copied)


def image_lines() -> list[str]:
    """The Dockerfile's instructions, each on one line."""
    return (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()


def test_a_change_of_source_installs_no_dependency_again() -> None:
    lines = image_lines()
    (needs,) = (n for n, line in enumerate(lines) if "--requirement /opt/bank/needs" in line)
    before = [line for line in lines[:needs] if line.startswith(("COPY", "ADD"))]
    assert before == ["COPY constraints.txt pyproject.toml ./"]
    assert "--constraint constraints.txt" in lines[needs]
    after = [line for line in lines[needs + 1 :] if "pip install" in line]
    assert after
    assert all("--no-deps" in line and "--no-index" in line for line in after)


def test_the_image_has_what_spans_need() -> None:
    assert any("['optional-dependencies']['otel']" in line for line in image_lines())


def test_the_labels_of_the_image_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = (line for line in image_lines() if line.startswith("LABEL"))
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', line))
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    bases = {line.split()[1] for line in image_lines() if line.startswith("FROM python")}
    assert {f"docker.io/library/{base}" for base in bases} == {labels["base.name"]}


# ------------------------------------------------------------------ the profile `observe`


def test_prometheus_loads_our_rules_and_scrapes_every_role(services: dict[str, Any]) -> None:
    folder = ROOT / "deploy" / "prometheus"
    assert "./deploy/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    assert "--config.file=/etc/prometheus/prometheus.yaml" in services["prometheus"]["command"]
    told = yaml.safe_load((folder / "prometheus.yaml").read_text())
    assert [(folder / name).name for name in told["rule_files"]] == ["alerts.yaml"]
    (job,) = told["scrape_configs"]
    assert job["job_name"] == "bank"
    ports = {name: each["port"] for each in job["dns_sd_configs"] for name in each["names"]}
    assert ports == {"forwarder": 9400, "worker": 9400, "accounts": 8000, "balances": 8030}


def test_grafana_is_provisioned_with_prometheus_and_our_dashboard(services: dict[str, Any]) -> None:
    folder = ROOT / "deploy" / "grafana"
    (source,) = yaml.safe_load((folder / "provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/bank.yaml").read_text())[
        "providers"
    ]
    shown = f"{provider['options']['path']}/bank.json"
    grafana = services["grafana"]
    assert f"./deploy/grafana/bank.json:{shown}:ro" in grafana["volumes"]
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == shown


# ------------------------------------------------------------------ `make test-compose`


def test_the_drill_knows_every_line_of_the_readme() -> None:
    assert of_readme() == list(CHECKS)


def test_every_image_that_is_not_ours_has_a_stand_in(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()} - {"bank-transfer"}
    names = {image.rpartition("/")[2].partition(":")[0] for image in images}
    folders = {path.parent.name for path in (ROOT / "tests/compose/images").glob("*/Dockerfile")}
    assert folders == names | {"servers"}


# ------------------------------------------------------------------ the profile `secure`


@pytest.mark.parametrize("role", sorted(ROLES))
def test_secure_roles_are_given_settings_that_exist_and_files_that_are_made(
    services: dict[str, Any], made: Path, role: str
) -> None:
    service = services[f"secure-{role}"]
    assert service["volumes"] == ["./deploy/secure/made/bank:/secure:ro"]
    environment = {
        name: str(made / "bank" / Path(value).relative_to(SECURE)) if "FILE" in name else value
        for name, value in service["environment"].items()
    }
    settings = load(environment)
    assert settings.keys == "on"
    for server in ("mongodb", "nats", "redis", "elasticsearch"):
        access = settings.access(server)
        assert access.tls or server == "mongodb"
        assert access.ca_file
        assert access.cert_file
        assert access.user
        assert len(access.password) == 48
        assert access.url.split("://")[1].split(":")[0] == f"secure-{server}"
        assert f"secure-{server}" in SECURE_SERVERS


def test_secure_roles_run_as_the_plain_ones_do(services: dict[str, Any]) -> None:
    for role in ROLES:
        plain, secure = services[role], services[f"secure-{role}"]
        for same in ("command", "image", "restart", "ports", "healthcheck", "deploy"):
            assert plain.get(same) == secure.get(same), (role, same)


def test_a_secure_server_is_the_plain_one_with_files_that_are_made(
    services: dict[str, Any], made: Path
) -> None:
    for name in SECURE_SERVERS:
        service, folder = services[name], name.removeprefix("secure-")
        plain = services["mongo" if folder == "mongodb" else folder]
        assert service["image"] == plain["image"]
        assert service["depends_on"] == {
            "secure-files": {"condition": "service_completed_successfully"}
        }
        mount = next(each for each in service["volumes"] if "/made/" in each).split(":")
        assert mount[0] == f"./deploy/secure/made/{folder}"
        assert mount[2] == "ro"
        told = [*service.get("command", ()), *map(str, service.get("environment", {}).values())]
        told += [str((ROOT / "deploy" / "secure" / "nats.conf").read_text())] * (folder == "nats")
        named = set(re.findall(r"(?:/|config/|\b)secure/([\w.]+)", " ".join(told)))
        assert named - {"conf"}, name
        assert all((made / folder / each).is_file() for each in named), named


def test_the_files_are_made_by_the_script_and_kept_out_of_git(services: dict[str, Any]) -> None:
    service = services["secure-files"]
    assert service["entrypoint"] == ["sh", "/secure/make.sh", "/secure/made"]
    assert service["volumes"] == ["./deploy/secure:/secure"]
    assert MAKE == ROOT / "deploy" / "secure" / "make.sh"
    assert "deploy/secure/made/" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_was_made_is_kept_and_what_was_deleted_is_made_anew(tmp_path: Path) -> None:
    make(tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in first)
    (tmp_path / "nats" / "server.pem").unlink()
    (tmp_path / "redis" / "password").unlink()
    make(tmp_path)
    changed = {
        str(path.relative_to(tmp_path)) for path, text in first.items() if path.read_bytes() != text
    }
    assert changed >= {"nats/server.pem", "redis/password", "redis/users.acl"}
    assert "bank/redis_password" in changed
    assert not changed & {"ca.pem", "bank/client.pem", "redis/server.pem", "mongodb/password"}


def test_nats_accepts_its_configuration(made: Path, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "secure" / "nats.conf").read_text()
    config = tmp_path / "nats.conf"
    config.write_text(
        text.replace('"../../secure/', f'"{os.path.relpath(made / "nats", tmp_path)}/').replace(
            '"/secure/', f'"{made}/nats/'
        )
    )
    program = SERVER_BINARIES["nats"].command("127.0.0.1", 4222, tmp_path)[0]
    checked = subprocess.run(
        [program, "-c", config, "-t"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


# ------------------------------------------------------------------ by others' rules


def test_the_schema_of_compose_accepts_the_file() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*check, ROOT / "compose.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def compose() -> list[str] | None:
    """Compose's command line where it is installed; it reads files without a daemon."""
    candidates = [["docker", "compose"], ["docker-compose"]]
    for command in candidates:
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "version"], capture_output=True, check=False
            ).returncode
        ):
            return command
    return None


def test_compose_itself_accepts_the_file() -> None:
    command = compose()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    checked = subprocess.run(
        [*command, "--profile", "*", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert checked.returncode == 0, checked.stderr
