#!/opt/venv/bin/python
"""Does what the health check of compose.yaml asks of mongosh, and nothing else."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from pymongo import MongoClient

MEMBER = Path("/data/db/member")

parser = argparse.ArgumentParser()
parser.add_argument("--quiet", action="store_true")
parser.add_argument("--tls", action="store_true")
parser.add_argument("--tlsCAFile")
parser.add_argument("--tlsCertificateKeyFile")
parser.add_argument("--eval", required=True)
told = parser.parse_args()
options: dict[str, Any] = {"directConnection": True}
if told.tls:
    named = {name: getattr(told, name) for name in ("tlsCAFile", "tlsCertificateKeyFile")}
    options |= {"tls": True, **named}
if auth := re.search(r'auth\("(\w+)", require\("fs"\)\.readFileSync\("(.+?)"', told.eval):
    options |= {"username": auth[1], "password": Path(auth[2]).read_text().strip()}
member = re.search(r'rs\.initiate\(\{_id: "\w+", members: \[\{_id: 0, host: "(.+?)"\}\]', told.eval)
if member is None or "quit(db.hello().isWritablePrimary ? 0 : 1)" not in told.eval:
    sys.exit("this mongosh knows the health check alone")
with MongoClient[dict[str, Any]]("127.0.0.1", 27017, **options) as client:
    client.admin.command("listDatabases")
    if not MEMBER.exists():
        MEMBER.write_text(member[1])
    hello = client.admin.command("hello")
sys.exit(0 if hello["isWritablePrimary"] and hello["me"] == member[1] else 1)
