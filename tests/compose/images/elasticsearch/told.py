"""Start Elasticsearch with the settings, and the password of `elastic`, that variables name."""

import os
import subprocess
from pathlib import Path

KEYSTORE = "bin/elasticsearch-keystore"

settings = {name: value for name, value in os.environ.items() if "." in name and name.islower()}
settings |= {"network.host": "0.0.0.0", "http.port": "9200"}
settings |= {"cluster.routing.allocation.disk.threshold_enabled": "false"}
environ = {name: value for name, value in os.environ.items() if name not in settings}
environ["ES_JAVA_HOME"] = str(Path("/usr/bin/java").resolve().parents[1])
if named := environ.pop("ELASTIC_PASSWORD_FILE", None):
    if not Path("config/elasticsearch.keystore").exists():
        subprocess.run([KEYSTORE, "create"], env=environ, check=True)
    subprocess.run(
        [KEYSTORE, "add", "--stdin", "--force", "bootstrap.password"],
        env=environ,
        input=Path(named).read_bytes().strip(),
        check=True,
    )
command = ["bin/elasticsearch", *(f"-E{name}={value}" for name, value in settings.items())]
os.execve(command[0], command, environ)
