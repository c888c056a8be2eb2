"""Compose's profile `cluster` and the Kubernetes overlay of that name: they have what
docs/clusters.md names, with the options that the tests on clusters run their servers with.

tests/cluster/test_deployed.py starts these servers.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.support.settings import PREFIX, load
from tests.cluster import nats, redis
from tests.deployed import (
    FILES,
    OVERLAY,
    ROLES,
    ROOT,
    SIZES,
    URLS,
    Deployment,
    compose,
    composed,
    directives,
    hosts,
    kubernetes,
    kustomization,
    manifests,
    of_kind,
    options,
)

PORTS = {"mongo": 27017, "nats": 4222, "redis": 6379, "sentinel": 26379, "elasticsearch": 9200}
DATA = {"mongo": "/data/db", "elasticsearch": "/usr/share/elasticsearch/data"}
SHORT = {"a": "addr", "p": "port", "js": "jetstream", "sd": "store_dir", "n": "name"}
"""Of nats-server."""


@pytest.fixture(params=[compose, kubernetes], ids=lambda made: str(made.__name__))
def deployment(request: pytest.FixtureRequest) -> Deployment:
    made: Deployment = request.param()
    return made


# ------------------------------------------------------------------ what the roles are told


@pytest.mark.parametrize("role", ROLES)
def test_the_roles_are_given_settings_that_exist(deployment: Deployment, role: str) -> None:
    told = deployment.settings[role]
    assert all(name.startswith(PREFIX) for name in told)
    settings = load(told)
    assert settings.stream_replicas == SIZES["nats"]
    assert 1 <= settings.index_replicas < SIZES["elasticsearch"]


@pytest.mark.parametrize(("setting", "kind"), URLS.items())
def test_a_url_lists_every_node_of_its_kind_at_its_port(
    deployment: Deployment, setting: str, kind: str
) -> None:
    listed = hosts(deployment.settings["worker"][setting])
    assert listed == {node.name: PORTS[kind] for node in deployment.of(kind)}


def test_the_urls_name_the_replica_set_and_the_primary(deployment: Deployment) -> None:
    told = deployment.settings["worker"]
    (replica_set,) = {options(node.command)["replSet"] for node in deployment.of("mongo")}
    assert told["BANK_MONGODB_URL"].endswith(f"/?replicaSet={replica_set}")
    watched = directives((FILES / "sentinel.conf").read_text())["sentinel monitor"].split()
    assert told["BANK_REDIS_URL"].endswith(f"/{watched[0]}")


def test_the_settings_of_both_differ_in_hosts_and_keys_alone() -> None:
    one, other = (each().settings["worker"] for each in (compose, kubernetes))
    own = {*URLS, "BANK_ACCOUNTS_URL", "BANK_KEYS", "BANK_ALLOWED_HOSTS", "BANK_PARTITIONS"}
    assert {n: one[n] for n in one.keys() - own} == {n: other[n] for n in other.keys() - own}


# ------------------------------------------------------------------ the nodes


def test_as_many_nodes_as_a_majority_needs(deployment: Deployment) -> None:
    assert {kind: len(deployment.of(kind)) for kind in SIZES} == SIZES
    assert all(size % 2 for kind, size in SIZES.items() if kind != "redis")


def test_the_servers_are_those_of_the_profile_plain(deployment: Deployment) -> None:
    services = composed()["services"]
    for node in deployment.nodes.values():
        plain = services["redis" if node.kind == "sentinel" else node.kind]
        assert node.image == plain["image"], node.name


def test_each_node_has_a_volume_of_its_own_where_its_data_is(deployment: Deployment) -> None:
    volumes = [node.volume for node in deployment.nodes.values()]
    assert len(volumes) == len(set(volumes)) == sum(SIZES.values())
    if deployment.name == "compose":
        assert set(volumes) <= composed()["volumes"].keys()
    for node in deployment.nodes.values():
        assert node.data == DATA.get(node.kind, "/data"), node.name


def test_a_health_check_goes_by_what_a_node_of_a_cluster_can_say(deployment: Deployment) -> None:
    wanted = {
        "mongo": "isWritablePrimary || db.hello().secondary",
        "nats": "/healthz?js-enabled-only=true",
        "redis": "ping",
        "sentinel": "sentinel ckquorum bank",
        "elasticsearch": "/_cluster/health?wait_for_status=yellow",
    }
    for node in deployment.nodes.values():
        assert wanted[node.kind] in node.check, node.name


def test_the_first_node_of_mongodb_makes_a_replica_set_of_all(deployment: Deployment) -> None:
    nodes = deployment.of("mongo")
    first = nodes[0].check
    members = re.findall(r'\{_id: (\d), host: "(.+?):27017"\}', first)
    assert members == [(str(number), node.name) for number, node in enumerate(nodes)]
    if deployment.name == "compose":
        assert not any("initiate" in node.check for node in nodes[1:])
    else:
        assert 'hostname() == "mongo-0") rs.initiate' in first


# ------------------------------------------------------------------ as it is tested


def test_nats_is_given_the_options_that_are_tested(deployment: Deployment, tmp_path: Path) -> None:
    routes = [f"nats://{node.name}:6222" for node in deployment.of("nats")]
    member = nats._member("n0", routes[0], routes, [])
    tested = options(map(str, member.command("127.0.0.1", 4222, tmp_path)))
    tested = {SHORT.get(name, name): value for name, value in tested.items()}
    names = set()
    for node in deployment.of("nats"):
        told = options(node.command)
        assert told.keys() - {"http_port"} == tested.keys() - {"addr", "port"}
        assert told["routes"] == tested["routes"]
        assert told["cluster_name"] == tested["cluster_name"]
        assert told["cluster"] == "nats://0.0.0.0:6222"
        assert told["store_dir"] == node.data
        assert told["name"] == node.name.partition(".")[0]
        names.add(told["name"])
    assert len(names) == SIZES["nats"]


def test_the_sentinels_are_given_what_is_tested() -> None:
    text = redis._SENTINEL.format(port=26379, name=redis.NAME, primary=6379)
    tested = directives(text)
    told = directives((FILES / "sentinel.conf").read_text())
    same = tested.keys() - {"bind", "sentinel monitor"}
    assert {name: told[name] for name in same} == {name: tested[name] for name in same}
    name, _, port, quorum = told["sentinel monitor"].split()
    was, _, _, needed = tested["sentinel monitor"].split()
    assert (name, port, quorum) == (was, "6379", needed)
    assert int(quorum) == SIZES["sentinel"] // 2 + 1
    assert told.keys() - tested.keys() == {
        "protected-mode",
        "sentinel resolve-hostnames",
        "sentinel announce-hostnames",
        "sentinel announce-ip",
    }


def test_the_servers_of_redis_are_told_their_names_and_the_first(deployment: Deployment) -> None:
    first = deployment.of("redis")[0].name
    for kind, word in (("redis", "server"), ("sentinel", "sentinel")):
        for node in deployment.of(kind):
            assert node.command == ("sh", "/etc/bank/redis.sh", word, node.name, first)
    assert (FILES / "redis.sh").is_file()


def test_elasticsearch_is_given_the_settings_that_are_tested(deployment: Deployment) -> None:
    tested = (ROOT / "tests" / "cluster" / "elasticsearch.py").read_text()
    wanted = set(re.findall(r'"((?:cluster|node|discovery)\.\w+)"', tested))
    nodes = deployment.of("elasticsearch")
    for node in nodes:
        told = node.environment
        dotted = {name for name in told if "." in name}
        assert dotted == wanted | {"xpack.security.enabled", "node.store.allow_mmap"}
        assert told["node.name"] == node.name.partition(".")[0]
        assert told["discovery.seed_hosts"].split(",") == [each.name for each in nodes]
        masters = [each.environment["node.name"] for each in nodes]
        assert told["cluster.initial_master_nodes"].split(",") == masters
        assert told["cluster.name"] == "bank"


# ------------------------------------------------------------------ Compose alone


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_as_the_plain_one_does_and_waits_for_all_nodes(role: str) -> None:
    services = composed()["services"]
    plain, clustered = services[role], services[f"cluster-{role}"]
    for same in ("command", "image", "build", "restart", "ports", "healthcheck", "deploy"):
        assert plain.get(same) == clustered.get(same), same
    kinds = {"redis": "sentinel"}
    waits = {
        f"cluster-{kinds.get(kind, kind)}-{number}"
        for kind in plain["depends_on"]
        for number in range(SIZES[kinds.get(kind, kind)])
    }
    assert clustered["depends_on"].keys() == waits
    conditions = {each["condition"] for each in clustered["depends_on"].values()}
    assert conditions == {"service_healthy"}


def test_compose_mounts_the_files_that_kubernetes_is_given() -> None:
    services = composed()["services"]
    for node in compose().of("redis") + compose().of("sentinel"):
        assert services[node.name]["volumes"][1] == "./deploy/cluster:/etc/bank:ro"
    (generator,) = kustomization(FILES)["configMapGenerator"]
    assert set(generator["files"]) | {"kustomization.yaml"} == {p.name for p in FILES.iterdir()}
    for name in ("redis", "sentinel"):
        spec = of_kind("StatefulSet")[name]["spec"]["template"]["spec"]
        assert spec["volumes"] == [{"name": "bank", "configMap": {"name": generator["name"]}}]
        (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "bank"]
        assert mount["mountPath"] == "/etc/bank"


# ------------------------------------------------------------------ Kubernetes alone


def test_the_schemas_accept_every_resource() -> None:
    assert len(manifests()) == 3 * len(SIZES) + 1
    for each in manifests():
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("kind", SIZES)
def test_a_node_is_found_by_name_before_it_is_ready_and_two_are_not_emptied_at_once(
    kind: str,
) -> None:
    spec = of_kind("StatefulSet")[kind]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    service, budget = of_kind("Service")[kind]["spec"], of_kind("PodDisruptionBudget")[kind]["spec"]
    assert spec["serviceName"] == kind
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    (container,) = spec["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert {each["targetPort"]: each["port"] for each in service["ports"]} == ports
    assert PORTS[kind] in ports.values()
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    for selector in (spec["selector"], budget["selector"], spread["labelSelector"]):
        assert selector == {"matchLabels": labels}
    assert service["selector"] == labels
    assert budget["maxUnavailable"] == 1
    assert {"readinessProbe", "livenessProbe", "resources"} <= container.keys()


@pytest.mark.parametrize("kind", SIZES)
def test_a_pod_of_a_server_may_do_nothing_that_it_need_not(kind: str) -> None:
    spec = of_kind("StatefulSet")[kind]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_none_but_the_namespace_reaches_the_servers() -> None:
    policy = of_kind("NetworkPolicy")["bank-servers"]["spec"]
    assert policy["ingress"] == [{"from": [{"podSelector": {}}]}]
    (label,) = policy["podSelector"]["matchLabels"].items()
    for each in of_kind("StatefulSet").values():
        assert label in each["spec"]["template"]["metadata"]["labels"].items()


def test_the_roles_may_reach_the_sentinels() -> None:
    (patch,) = kustomization()["patches"]
    assert yaml.safe_load(patch["patch"]) == [
        {"op": "add", "path": "/spec/egress/1/ports/-", "value": {"port": PORTS["sentinel"]}}
    ]
    for role in ROLES:
        assert re.fullmatch(patch["target"]["name"], f"bank-{role}")
    assert not re.fullmatch(patch["target"]["name"], "bank-servers")


def test_kustomize_itself_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(OVERLAY)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    resources: list[Any] = list(yaml.safe_load_all(built.stdout))
    assert len(resources) == 18 + len(manifests()) + 1
    made = {r["metadata"]["name"] for r in resources if r["kind"] == "ConfigMap"}
    for each in resources:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
        assert each["metadata"]["namespace"] == "bank"
        if each["kind"] == "StatefulSet":
            volumes = each["spec"]["template"]["spec"].get("volumes", ())
            assert {volume["configMap"]["name"] for volume in volumes} <= made
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] != "bank-servers":
            ports = {port["port"] for port in each["spec"]["egress"][1]["ports"]}
            assert ports == {27017, 4222, 6379, 9200, 26379}
