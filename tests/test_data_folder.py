"""A role that is started by itself, where no `bank servers` has made the data folder before."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from pipeline.embedded.health import WELL, ready
from tests.harness import Role, eventually
from tests.ports import free_port


async def test_a_worker_makes_the_data_folder_that_is_not_there(
    scratch: Path, role: Callable[..., Awaitable[Role]]
) -> None:
    folder, port = scratch / "not" / "there", free_port()
    await role("bank", "worker", BANK_DATA_DIR=str(folder), BANK_METRICS_PORT=str(port))

    async def well() -> bool:
        return await ready(f"http://127.0.0.1:{port}") == WELL

    await eventually(well, seconds=120, message="the worker is ready")
    assert folder.is_dir()


async def test_one_that_can_not_be_made_is_told_with_its_setting(
    scratch: Path, role: Callable[..., Awaitable[Role]]
) -> None:
    file = scratch / "file"
    file.touch()
    worker = await role("bank", "worker", BANK_DATA_DIR=str(file / "folder"))
    assert await worker.wait() == 1
    assert worker.log() == f"bank: BANK_DATA_DIR: {file / 'folder'}: Not a directory\n"
