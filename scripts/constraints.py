#!/usr/bin/env python3
"""Write constraints.txt: the one version of each package that the bank and its extras are run with.

    scripts/constraints.py PYTHON...

Each PYTHON is that of an environment into which `.[embedded,dev]` is installed, one for each
version of Python that the bank is for. Where two of them have different versions of a package, the
line says for which Python it is. To renew all versions, install into environments without the file.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.dependencies import CONSTRAINTS, EXTRAS, needed  # noqa: E402

HEAD: Final = (
    "# The versions that are tested together, by scripts/constraints.py: pip install -c.\n"
)


def installed() -> dict[str, str]:
    """The versions that this Python's environment has of all that the bank needs."""
    found = {}
    for name in needed(*EXTRAS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            sys.exit(f"{sys.executable} has no {name}: install '.[embedded,dev]' into it")
    return found


def asked(python: str) -> tuple[str, dict[str, str]]:
    """The same of another Python, with its number: 3.11."""
    output = subprocess.run([python, __file__], stdout=subprocess.PIPE, check=True).stdout
    number, versions = json.loads(output)
    return number, versions


def lines(environments: dict[str, dict[str, str]]) -> Iterator[str]:
    """The file's lines, from the versions of each Python."""
    by_name = defaultdict[str, dict[str, list[str]]](lambda: defaultdict(list))
    for number, versions in environments.items():
        for name, found in versions.items():
            by_name[name][found].append(number)
    for name, pythons in sorted(by_name.items()):
        for found, numbers in pythons.items():
            marker = " or ".join(f"python_version == '{number}'" for number in numbers)
            yield f"{name}=={found}; {marker}" if len(pythons) > 1 else f"{name}=={found}"


def main(pythons: list[str]) -> None:
    if pythons:
        text = HEAD + "".join(f"{line}\n" for line in lines(dict(map(asked, pythons))))
        CONSTRAINTS.write_text(text)
    else:
        number = f"{sys.version_info[0]}.{sys.version_info[1]}"
        json.dump([number, installed()], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
