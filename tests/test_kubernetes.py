"""deploy/kubernetes: the API's own schemas accept it, and it fits the roles and their settings."""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.cli.main import main
from pipeline.support.access import SERVERS
from pipeline.support.settings import SettingsError, load

ROOT = Path(__file__).parents[1]
BASE = ROOT / "deploy" / "kubernetes" / "base"
EXAMPLE = ROOT / "deploy" / "kubernetes" / "overlays" / "example"
SECURE = ROOT / "deploy" / "kubernetes" / "overlays" / "secure"
MADE_ELSEWHERE = {"bank-certificate"}
ROLES = ("forwarder", "worker", "accounts", "balances")
VERSIONS = ("1.33", kubernetes_validate.latest_version())
"""The oldest that is looked after, and the newest that the validator knows."""
Manifest = dict[str, Any]


def kustomization(folder: Path) -> Manifest:
    found: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


@cache
def written() -> list[Manifest]:
    """The resources of the base as they are written."""
    texts = [(BASE / name).read_text() for name in kustomization(BASE)["resources"]]
    return [each for text in texts for each in yaml.safe_load_all(text)]


def variables(folder: Path, generator: str, number: int = 0) -> dict[str, str]:
    """What a generator puts into its ConfigMap or Secret."""
    each = kustomization(folder)[generator][number]
    lines = [
        line for name in each.get("envs", ()) for line in (folder / name).read_text().split("\n")
    ]
    pairs = [line for line in lines if line and line[0] != "#"] + each.get("literals", [])
    return dict(pair.split("=", 1) for pair in pairs)


def generated() -> Iterator[Manifest]:
    for generator, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
        data = variables(BASE, generator)
        if kind == "Secret":
            data = {name: base64.b64encode(each.encode()).decode() for name, each in data.items()}
        name = kustomization(BASE)[generator][0]["name"]
        yield {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data}


def kind(name: str) -> dict[str, Manifest]:
    """The base's resources of a kind, by the role that they are of."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each
        for each in written()
        if each["kind"] == name
    }


def pod(role: str) -> Manifest:
    spec: Manifest = kind("Deployment")[role]["spec"]["template"]["spec"]
    return spec


def container(role: str) -> Manifest:
    (only,) = pod(role)["containers"]
    found: Manifest = only
    return found


# ------------------------------------------------------------------ by the API's schemas


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_accept_every_resource(version: str) -> None:
    resources = [*written(), *generated()]
    assert len(resources) == 4 + 4 + 4 + 4 + 2
    for each in resources:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    ("key", "value"), [("replica", 2), ("replicas", "two"), ("selector", {"labels": {}})]
)
def test_the_schemas_do_not_accept_everything(key: str, value: object) -> None:
    deployment = deepcopy(kind("Deployment")["worker"])
    deployment["spec"][key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", [BASE, EXAMPLE, SECURE], ids=lambda folder: str(folder.name))
def test_kustomize_itself_builds_it(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    assert len(resources) == 18 + (folder == SECURE)
    made = {
        each["metadata"]["name"] for each in resources if each["kind"] in ("ConfigMap", "Secret")
    }
    for each in resources:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        if each["kind"] == "Deployment":
            pod_spec = each["spec"]["template"]["spec"]
            (only,) = pod_spec["containers"]
            named = {
                reference["name"] for source in only["envFrom"] for reference in source.values()
            }
            mounted = {
                volume["secret"]["secretName"]
                for volume in pod_spec["volumes"]
                if "secret" in volume
            }
            assert named | mounted == made | (MADE_ELSEWHERE if folder == SECURE else set())


# ------------------------------------------------------------------ by the bank's own roles


def test_each_role_has_a_deployment_a_budget_a_policy_and_a_service() -> None:
    for name in ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service"):
        assert kind(name).keys() == set(ROLES), name


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: str(folder.name))
def test_the_roles_are_given_settings_that_exist(folder: Path) -> None:
    told = variables(BASE, "configMapGenerator") | variables(folder, "configMapGenerator")
    urls = variables(folder, "secretGenerator")
    assert urls.keys() == {
        f"BANK_{name}_URL" for name in ("MONGODB", "NATS", "REDIS", "ELASTICSEARCH")
    }
    assert not urls.keys() & told.keys()
    assert not any("@" in value for value in told.values())
    settings = load({**told, **urls})
    assert (settings.host, settings.metrics_port) == ("0.0.0.0", 9400)
    assert "127.0.0.1" not in str(settings)


def test_the_secure_overlay_mounts_the_files_that_its_settings_name(made: Path) -> None:
    told = variables(BASE, "configMapGenerator") | variables(SECURE, "configMapGenerator")
    assert variables(SECURE, "secretGenerator").keys() == variables(BASE, "secretGenerator").keys()
    told |= variables(SECURE, "secretGenerator")
    patch = yaml.safe_load((SECURE / "volumes.yaml").read_text())
    mounts = {each["value"]["mountPath"] for each in patch if "volumeMounts" in each["path"]}
    passwords = {f"/secure/credentials/{name}" for name in variables(SECURE, "secretGenerator", 1)}
    files = {name: value for name, value in told.items() if name.endswith("_FILE")}
    assert {value.rpartition("/")[0] for value in files.values()} == mounts
    assert {value for value in files.values() if "credentials" in value} == passwords
    bank = made / "bank"
    here = {"ca.crt": bank / "ca.pem", "tls-combined.pem": bank / "client.pem"}
    here |= {f"{server}_password": bank / f"{server}_password" for server in SERVERS}
    settings = load(told | {name: str(here[Path(at).name]) for name, at in files.items()})
    for server in SERVERS:
        access = settings.access(server)
        assert access.tls or server == "mongodb"
        assert all((access.user, access.password, access.ca_file, access.cert_file)), server


@pytest.mark.parametrize("role", ROLES)
def test_a_container_runs_its_role_with_all_settings(role: str) -> None:
    only = container(role)
    assert only["args"] == [role]
    assert role in main.commands
    assert only["envFrom"] == [
        {"configMapRef": {"name": kustomization(BASE)["configMapGenerator"][0]["name"]}},
        {"secretRef": {"name": kustomization(BASE)["secretGenerator"][0]["name"]}},
    ]
    assert only["image"] == kustomization(EXAMPLE)["images"][0]["name"]


@pytest.mark.parametrize("role", ROLES)
def test_probes_and_services_reach_the_port_that_the_role_listens_on(role: str) -> None:
    settings = load(variables(BASE, "configMapGenerator"))
    wanted = getattr(settings, f"{role}_port", settings.metrics_port)
    only = container(role)
    (port,) = only["ports"]
    assert port["containerPort"] == wanted
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert only[probe]["httpGet"] == {"path": path, "port": port["name"]}
    service = kind("Service")[role]["spec"]
    assert service["ports"] == [{"name": port["name"], "port": wanted, "targetPort": port["name"]}]


@pytest.mark.parametrize("role", ROLES)
def test_selectors_select_the_pods_of_the_role(role: str) -> None:
    deployment = kind("Deployment")[role]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == role
    assert deployment["selector"]["matchLabels"] == labels
    assert kind("PodDisruptionBudget")[role]["spec"]["selector"]["matchLabels"] == labels
    assert kind("Service")[role]["spec"]["selector"] == labels
    (spread,) = pod(role)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("role", ["accounts", "balances"])
def test_a_service_answers_on_while_it_is_taken_out_of_the_endpoints(role: str) -> None:
    pause = container(role)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 5
    assert pod(role)["terminationGracePeriodSeconds"] >= pause + 30


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("folder", [BASE, EXAMPLE, SECURE], ids=lambda folder: str(folder.name))
def test_a_role_is_reached_on_its_port_and_reaches_servers_and_names(
    role: str, folder: Path
) -> None:
    policy = kind("NetworkPolicy")[role]["spec"]
    labels = kind("Deployment")[role]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (port,) = container(role)["ports"]
    assert policy["ingress"] == [{"ports": [{"port": port["name"]}]}]
    names, servers, *services = policy["egress"]
    assert {(each["port"], each["protocol"]) for each in names["ports"]} == {
        (53, "UDP"),
        (53, "TCP"),
    }
    urls = variables(folder, "secretGenerator").values()
    named = {int(port) for url in urls for port in re.findall(r":(\d+)(?:[,/]|$)", url)}
    assert {each["port"] for each in servers["ports"]} == named
    if role == "balances":  # it hands the page's commands on
        [accounts] = services
        assert accounts["ports"] == [
            {"port": kind("Service")["accounts"]["spec"]["ports"][0]["port"]}
        ]
        [to] = accounts["to"]
        labels = kind("Deployment")["accounts"]["spec"]["template"]["metadata"]["labels"]
        assert to["podSelector"]["matchLabels"].items() <= labels.items()
    else:
        assert not services


@pytest.mark.parametrize("folder", [EXAMPLE, SECURE], ids=lambda folder: str(folder.name))
def test_an_overlay_names_the_image_by_its_digest(folder: Path) -> None:
    (image,) = kustomization(folder)["images"]
    assert image.keys() == {"name", "newName", "digest"}
    assert re.fullmatch("sha256:[0-9a-f]{64}", image["digest"])


@pytest.mark.parametrize("role", ROLES)
def test_a_node_can_be_emptied_and_a_role_goes_on(role: str) -> None:
    assert kind("PodDisruptionBudget")[role]["spec"]["maxUnavailable"] == 1
    deployment = kind("Deployment")[role]["spec"]
    assert deployment["replicas"] > 1
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container(role)["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_may_do_nothing_that_it_need_not(role: str) -> None:
    image_user = next(
        int(line.split()[1])
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("USER")
    )
    assert pod(role)["securityContext"]["runAsNonRoot"] is True
    assert pod(role)["securityContext"]["runAsUser"] == image_user
    assert pod(role)["automountServiceAccountToken"] is False
    assert container(role)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("role", ROLES)
def test_no_service_of_the_cluster_becomes_a_setting(role: str) -> None:
    name = kind("Service")[role]["metadata"]["name"].upper().replace("-", "_")
    with pytest.raises(SettingsError):
        load({f"{name}_PORT": "tcp://10.0.0.1:8000"})
    assert pod(role)["enableServiceLinks"] is False
