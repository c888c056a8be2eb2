"""The pytest plugin: the fixtures `bank`, `bank_settings`, `bank_servers` and `application`.

pytest imports it in each of its runs wherever the package is installed: so it imports nothing that
takes time, and without pytest-asyncio it does nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pipeline.testing.bank import Bank

__all__ = ["Bank"]


def pytest_configure(config: "pytest.Config") -> None:
    """Add the fixtures where tests can be coroutines."""
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.register(import_module("pipeline.testing.fixtures"), "bank fixtures")


def __getattr__(name: str) -> Any:
    """`Bank`, the type of the fixture `bank`, when it is asked for."""
    if name != "Bank":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("pipeline.testing.bank").Bank
