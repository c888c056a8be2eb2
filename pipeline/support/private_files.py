"""Folders and files that only this user may read: they hold accounts, logs and addresses."""

import os
import stat
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path) -> Path:
    """The folder, which is made unless it is there; ours is closed to others. One that is not ours,
    or is everybody's such as `/tmp`, stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(folder)
    return folder


def private_file(file: Path) -> Path:
    """The same for a file; what is in it stays."""
    file.touch(mode=0o600)
    _close(file)
    return file


def _close(path: Path) -> None:
    found = path.stat()
    if (
        found.st_uid == os.geteuid()
        and found.st_mode & _OTHERS
        and not found.st_mode & stat.S_ISVTX
    ):
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
