"""Each client gets in by TLS and what it was told, or says which setting is to blame."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from pipeline.support.access import SERVERS
from pipeline.support.settings import Settings
from tests.conftest import placed
from tests.harness import Servers
from tests.proxy.tcp import TcpProxy
from tests.secure.servers import API_KEY, presenting
from tests.secure.why import why_not

WRONG = SecretStr("not-the-password-of-it")


def changed(settings: Settings, server: str, **changes: Any) -> Settings:
    return settings.model_copy(update={f"{server}_{name}": v for name, v in changes.items()})


async def test_all_four_let_the_bank_in(settings: Settings) -> None:
    assert [await why_not(server, settings) for server in SERVERS] == ["", "", "", ""]


async def test_an_api_key_lets_in_to_elasticsearch(settings: Settings) -> None:
    nobody = {"user": "", "password": SecretStr("")}
    keyed = changed(settings, "elasticsearch", api_key=SecretStr(API_KEY), **nobody)
    assert await why_not("elasticsearch", keyed) == ""
    assert "BANK_ELASTICSEARCH_API_KEY" in await why_not(
        "elasticsearch", changed(keyed, "elasticsearch", api_key=WRONG)
    )


async def test_a_refusal_names_the_settings_and_no_secret(
    settings: Settings, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.pem"
    trustme.CA().cert_pem.write_to_path(foreign)
    for server in SERVERS:
        name = server.upper()
        said = await why_not(server, changed(settings, server, password=WRONG))
        assert "refuses our credentials" in said, said
        assert f"BANK_{name}_PASSWORD" in said, said
        assert WRONG.get_secret_value() not in said
        said = await why_not(server, changed(settings, server, user="", password=SecretStr("")))
        assert f"BANK_{name}_PASSWORD" in said, said
        said = await why_not(server, changed(settings, server, ca_file=foreign))
        assert "is not trusted" in said, said
        assert f"BANK_{name}_CA_FILE" in said, said
        # With TLS 1.3 a server may break off before its reason is read.
        assert await why_not(server, changed(settings, server, cert_file=None)), server


@pytest.mark.parametrize("server", ["mongodb", "redis", "elasticsearch"])
@pytest.mark.parametrize("fault", ["expired", "other host"])
async def test_a_certificate_that_does_not_hold_is_not_taken(
    servers: Servers, tmp_path: Path, server: str, fault: str
) -> None:
    ca, ca_file = trustme.CA(), tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    host = "elsewhere.example" if fault == "other host" else "127.0.0.1"
    until = datetime.now(UTC) + timedelta(days=-1 if fault == "expired" else 1)
    cert = ca.issue_cert(host, not_before=until - timedelta(days=9), not_after=until)
    async with TcpProxy(getattr(servers, f"{server}_url"), presenting(cert)) as proxy:
        url = proxy.url.replace("http:", "https:").replace("redis:", "rediss:")
        told = changed(placed(tmp_path), server, url=url, ca_file=ca_file)
        said = await why_not(server, told)
    assert f"BANK_{server.upper()}_CA_FILE" in said, said
    assert ("expired" if fault == "expired" else "mismatch") in said, said
