#!/opt/venv/bin/python
"""SecantusDB by mongod's options. Its name in the replica set is what mongosh has written."""

import argparse
import os
import signal
from pathlib import Path

from pymongo import MongoClient
from secantus.server import SecantusDBServer  # type: ignore[import-untyped]

DATA = Path("/data/db")
MEMBER = DATA / "member"
USER_MADE = DATA / "user-made"

parser = argparse.ArgumentParser()
parser.add_argument("--replSet", required=True)
parser.add_argument("--bind_ip_all", action="store_true", required=True)
parser.add_argument("--keyFile", type=Path)
parser.add_argument("--tlsMode", choices=["requireTLS"])
parser.add_argument("--tlsCertificateKeyFile")
parser.add_argument("--tlsCAFile")
told = parser.parse_args()
if told.keyFile:
    assert len(told.keyFile.read_text().strip()) >= 6


class Mongod(SecantusDBServer):  # type: ignore[misc]
    @property
    def address(self) -> tuple[str, int]:
        if MEMBER.exists():
            host, _, port = MEMBER.read_text().partition(":")
            return host, int(port)
        return self.host, self.port


def server(host: str, port: int, **options: object) -> Mongod:
    return Mongod(
        host,
        port,
        str(DATA),
        replica_set_name=told.replSet,
        oplog_retention_seconds=7 * 24 * 3600,
        oplog_max_entries=1_000_000,
        sync_on_commit=True,
        enable_test_commands=False,
        **options,
    )


root = os.environ.get("MONGO_INITDB_ROOT_USERNAME")
if root and not USER_MADE.exists():
    # On another port: the kernel may still have the first server's connections later on.
    first = server("127.0.0.1", 27018)
    first.start()
    password = Path(os.environ["MONGO_INITDB_ROOT_PASSWORD_FILE"]).read_text().strip()
    with MongoClient[dict[str, object]]("127.0.0.1", 27018, directConnection=True) as client:
        client.admin.command({"createUser": root, "pwd": password, "roles": ["root"]})
    first.stop()
    USER_MADE.touch()

tls: dict[str, object] = {}
if told.tlsMode:
    pem = told.tlsCertificateKeyFile
    tls = {"tls_cert_file": pem, "tls_key_file": pem, "tls_ca_file": told.tlsCAFile}
    tls["tls_require_client_cert"] = True
mongod = server("0.0.0.0", 27017, require_auth=bool(root), **tls)
signal.signal(signal.SIGTERM, lambda *_: mongod.stop())
mongod.start()
mongod.wait()
