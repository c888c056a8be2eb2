"""Elasticsearch by the variables of its image; with security on, behind a proxy that has it.

The proxy wants a certificate of the CA and the password of `elastic`, as Elasticsearch would.
"""

import os
import signal
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path

from aiohttp import ClientSession, web

HOME = Path("/usr/share/elasticsearch")
SECURITY = "xpack.security."
BEHIND = 9201
HOP = {"transfer-encoding", "content-length", "connection", "host", "authorization"}

told = {name: value for name, value in os.environ.items() if "." in name and name.islower()}
security = {name: told.pop(name) for name in list(told) if name.startswith(SECURITY)}
secure = security[f"{SECURITY}enabled"] == "true"
told |= {"cluster.routing.allocation.disk.threshold_enabled": "false"}
told |= {"network.host": "127.0.0.1" if secure else "0.0.0.0"}
told |= {"http.port": str(BEHIND if secure else 9200)}
command = ["bin/elasticsearch", *(f"-E{name}={value}" for name, value in told.items())]
environ = {name: value for name, value in os.environ.items() if "." not in name}
environ["ES_JAVA_HOME"] = str(Path("/usr/bin/java").resolve().parents[1])


def guarded() -> None:
    proof = Path(os.environ["ELASTIC_PASSWORD_FILE"]).read_text().strip()
    expected = "Basic " + b64encode(f"elastic:{proof}".encode()).decode()
    ours = {name: HOME / "config" / value for name, value in security.items() if "ssl." in name}
    tls = f"{SECURITY}http.ssl."
    assert security[f"{tls}client_authentication"] == "required"
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=ours[f"{tls}certificate_authorities"]
    )
    context.load_cert_chain(ours[f"{tls}certificate"], ours[f"{tls}key"])
    context.verify_mode = ssl.CERT_REQUIRED

    async def forward(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != expected:
            return web.json_response({"error": {"type": "security_exception"}}, status=401)
        asked = {name: text for name, text in request.headers.items() if name.lower() not in HOP}
        url = f"http://127.0.0.1:{BEHIND}{request.raw_path}"
        async with (
            ClientSession(auto_decompress=False) as http,
            http.request(request.method, url, headers=asked, data=await request.read()) as answer,
        ):
            kept = {name: text for name, text in answer.headers.items() if name.lower() not in HOP}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    with subprocess.Popen(command, env=environ, cwd=HOME) as child:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", forward)
        web.run_app(app, port=9200, ssl_context=context, print=None)
        child.send_signal(signal.SIGTERM)


if secure:
    guarded()
else:
    os.execve(command[0], command, environ)
