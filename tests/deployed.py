"""The clusters of compose.yaml and of the Kubernetes overlay in one shape, to compare them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
OVERLAY: Final = ROOT / "deploy" / "kubernetes" / "overlays" / "cluster"
FILES: Final = ROOT / "deploy" / "cluster"
"""What both mount into the servers and sentinels of Redis, as /etc/bank."""
SIZES: Final = {"mongo": 3, "nats": 3, "redis": 2, "sentinel": 3, "elasticsearch": 3}
URLS: Final = {
    "BANK_MONGODB_URL": "mongo",
    "BANK_NATS_URL": "nats",
    "BANK_REDIS_URL": "sentinel",
    "BANK_ELASTICSEARCH_URL": "elasticsearch",
}
"""Each setting with a URL, and the kind of nodes that it lists."""
ROLES: Final = ("forwarder", "worker", "accounts", "balances")


@dataclass(frozen=True)
class Node:
    """One server. `volume` is its own, mounted at `data`; `check` is what its health check runs or
    asks; `ports` are those at which others reach it."""

    name: str
    kind: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    volume: str
    data: str
    check: str

    def spelled(self, names: Mapping[str, str]) -> tuple[str, ...]:
        """The command line with other names in place of the nodes'."""
        return tuple(renamed(word, names) for word in self.command)


@dataclass(frozen=True)
class Deployment:
    """`settings`: what every role is told, by role; `nodes`: by the name that others call it."""

    name: str
    settings: Mapping[str, Mapping[str, str]]
    nodes: Mapping[str, Node]

    def of(self, kind: str) -> list[Node]:
        return [each for each in self.nodes.values() if each.kind == kind]


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with each name replaced, longer ones first: `redis-0.redis` has `redis-0` in it."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


# ------------------------------------------------------------------ Compose


@cache
def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def compose() -> Deployment:
    """The profile `cluster`."""
    services = {
        name: each
        for name, each in composed()["services"].items()
        if each["profiles"] == ["cluster"]
    }
    roles = {role: services.pop(f"cluster-{role}")["environment"] for role in ROLES}
    return Deployment("compose", roles, {name: _service(name, services[name]) for name in services})


def _service(name: str, service: Mapping[str, Any]) -> Node:
    volume, data = service["volumes"][0].split(":")
    return Node(
        name,
        name.split("-")[1],
        service["image"],
        tuple(service.get("command", ())),
        service.get("environment", {}),
        volume,
        data,
        " ".join(service["healthcheck"]["test"]),
    )


# ------------------------------------------------------------------ Kubernetes


def kustomization(folder: Path = OVERLAY) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    """The resources that are written in the overlay's own files."""
    files = [name for name in kustomization()["resources"] if name.endswith(".yaml")]
    texts = [(OVERLAY / name).read_text() for name in files]
    return tuple(each for text in texts for each in yaml.safe_load_all(text))


def of_kind(kind: str) -> dict[str, Any]:
    """The overlay's own resources of a kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests() if each["kind"] == kind}


def kubernetes() -> Deployment:
    """The overlay `cluster`: each pod is a node, by its name in the headless Service."""
    base = OVERLAY.parents[1] / "base"
    own, merged = kustomization(), kustomization(base)
    told = _lines((base / merged["configMapGenerator"][0]["envs"][0]).read_text().splitlines())
    told |= _lines(own["configMapGenerator"][0]["literals"])
    told |= _lines((OVERLAY / own["secretGenerator"][0]["envs"][0]).read_text().splitlines())
    nodes = [node for each in of_kind("StatefulSet").values() for node in _pods(each)]
    return Deployment("kubernetes", dict.fromkeys(ROLES, told), {each.name: each for each in nodes})


def _lines(lines: Iterable[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def _pods(manifest: Mapping[str, Any]) -> list[Node]:
    spec, kind = manifest["spec"], manifest["metadata"]["name"]
    (container,) = spec["template"]["spec"]["containers"]
    (claim,) = spec["volumeClaimTemplates"]
    (data,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "data"]
    assert claim["metadata"]["name"] == "data"
    nodes = []
    for number in range(spec["replicas"]):
        pod = f"{kind}-{number}"
        words = [*container.get("command", ()), *container.get("args", ())]
        environment = {e["name"]: e["value"] for e in container.get("env", ()) if "value" in e}
        nodes.append(
            Node(
                f"{pod}.{spec['serviceName']}",
                kind,
                container["image"],
                tuple(word.replace("$(POD)", pod) for word in words),
                {name: value.replace("$(POD)", pod) for name, value in environment.items()},
                f"data-{pod}",
                data,
                _asked(container["readinessProbe"]),
            )
        )
    return nodes


def _asked(probe: Mapping[str, Any]) -> str:
    if "exec" in probe:
        return " ".join(probe["exec"]["command"])
    return str(probe["httpGet"]["path"])


# ------------------------------------------------------------------ what is told to servers


def options(words: Iterable[str]) -> dict[str, str]:
    """Long options of a command line with their values, whichever way these are written."""
    found: dict[str, str] = {}
    last = ""
    for word in words:
        if word.startswith("-"):
            last, _, value = word.partition("=")
            found[last] = value
        elif last:
            found[last] = word
    return {name.lstrip("-"): value for name, value in found.items()}


def directives(text: str) -> dict[str, str]:
    """The lines of a configuration of Redis; `sentinel` has a word more in its name."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words and words[0] != "#" and not line.startswith("#"):
            names = 2 if words[0] == "sentinel" else 1
            found[" ".join(words[:names])] = " ".join(words[names:])
    return found


def hosts(url: str) -> dict[str, int]:
    """The hosts of a URL with their ports."""
    listed = re.split("[/?]", url.partition("://")[2])[0]
    parts = [each.rpartition(":") for each in listed.split(",")]
    return {host: int(port) for host, _, port in parts}
