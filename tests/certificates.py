"""Certificates and passwords as `docker compose --profile secure up` makes them."""

import subprocess
from pathlib import Path

MAKE = Path(__file__).parents[1] / "deploy" / "secure" / "make.sh"


def make(folder: Path) -> None:
    """Run the script; what is in the folder is kept."""
    subprocess.run(["sh", MAKE, folder], check=True, capture_output=True, timeout=60)
