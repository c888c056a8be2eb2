"""An application of commands alone: no worker, no documents, no Elasticsearch."""

import os

import aiohttp
import pytest

from api.balances.app import create_app
from pipeline.app import worker
from pipeline.cli.up import _what_to_try
from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.embedded.up import accounts_url, roles_of, running, servers_of
from pipeline.model.projection_lookup import UnknownProjection, projections
from pipeline.operations.verify import verify
from pipeline.support.settings import Settings, SettingsError, load
from tests.conftest import beside
from tests.ports import free_port

BELLS = "tests.api.aggregates.orders:BELLS"


@pytest.fixture
def bells(settings: Settings) -> Settings:
    nowhere = f"http://127.0.0.1:{free_port()}"
    return beside(settings, BELLS, "").model_copy(update={"elasticsearch_url": nowhere})


async def test_it_runs_without_what_it_does_not_need(bells: Settings) -> None:
    said: list[tuple[str, str]] = []
    async with running(bells, lambda *line: said.append(line), without=tuple(SERVER_BINARIES)):
        async with (
            aiohttp.ClientSession(accounts_url(bells)) as http,
            http.post("/aggregates/bell", json={"command": "Ring"}) as answer,
        ):
            assert answer.status == 201, await answer.text()
        report = await verify(bells)
    assert {role for role, _ in said} <= {"forwarder", "accounts"}
    assert (report.figures.events, report.holds) == (1, True), report


async def test_what_only_keeps_or_reads_documents_says_that_there_are_none(
    bells: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert roles_of(bells) == ["forwarder", "accounts"]
    assert servers_of(bells) == [each for each in SERVER_BINARIES if each != "elasticsearch"]
    shown = _what_to_try(bells)
    assert "/aggregates/bell" in shown
    assert str(bells.balances_port) not in shown
    with pytest.raises(SettingsError, match="bells has no projection to keep or to read"):
        create_app(bells)
    with pytest.raises(SettingsError, match="bells has no projection to keep or to read"):
        await worker(bells)
    for name in [each for each in os.environ if each.startswith("BANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BANK_APPLICATION", BELLS)
    assert load().kept == ()


def test_an_application_with_projections_keeps_one_at_least() -> None:
    with pytest.raises(UnknownProjection, match="name one projection at least, such as `balance`"):
        projections(" ")
