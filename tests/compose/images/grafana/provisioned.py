"""Stands in for Grafana: reads the provisioned files, and shows their dashboards by uid."""

import http.server
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import yaml

PROVISIONING = Path("/etc/grafana/provisioning")


def provisioned(kind: str) -> list[dict[str, Any]]:
    """The entries of all files of a kind: `datasources`, or the `providers` of dashboards."""
    found: list[dict[str, Any]] = []
    for path in (PROVISIONING / ("dashboards" if kind == "providers" else kind)).glob("*.yaml"):
        told = yaml.safe_load(path.read_text())
        assert told["apiVersion"] == 1, path
        found += told[kind]
    return found


(source,) = provisioned("datasources")
(provider,) = provisioned("providers")
BOARDS = {
    board["uid"]: board
    for path in Path(provider["options"]["path"]).glob("*.json")
    for board in [json.loads(path.read_text())]
}
home = json.loads(Path(os.environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).read_text())
assert home["uid"] in BOARDS


class Grafana(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        prefix, _, uid = self.path.rpartition("/")
        if self.path == "/api/health":
            with urllib.request.urlopen(f"{source['url']}/-/ready"):
                self.answer(200, {"database": "ok"})
        elif prefix == "/api/dashboards/uid" and uid in BOARDS:
            self.answer(200, {"dashboard": BOARDS[uid]})
        else:
            self.answer(404, {})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


http.server.ThreadingHTTPServer(("", 3000), Grafana).serve_forever()
