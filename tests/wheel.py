"""The wheel, and an environment that has it and nothing of this checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def build(folder: Path) -> Path:
    """Build it as pip does, by the same backend."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    built = subprocess.run(
        [*command, "--directory", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("bank_transfer-*.whl")
    return found


def clean_environ(scripts: str | Path) -> dict[str, str]:
    """This process's variables, but for those of a bank and of pytest, with `scripts` in PATH."""
    ours = ("BANK_", "PYTEST_")
    others = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**others, "PATH": f"{scripts}:{os.environ['PATH']}"}


class Environment:
    """A virtual environment with the wheel, unless that is yet to be installed, and the
    dependencies of this one: nothing is fetched.

    `scripts`: the folder of its commands. `environ`: variables to run them with, none of a bank.
    """

    def __init__(self, folder: Path, wheel: Path | None) -> None:
        venv.create(folder, with_pip=False)
        self.scripts = folder / "bin"
        self.python = self.scripts / "python"
        if wheel is not None:
            self._install(wheel)
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        # Only the folder: a .pth file in it, such as that of an editable install, is not read.
        Path(site, "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.environ = {**clean_environ(self.scripts), "TMPDIR": "/tmp", "PYTHONPATH": ""}

    def _install(self, wheel: Path) -> None:
        install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", self.python, *install, wheel],
            check=True,
            timeout=300,
        )
