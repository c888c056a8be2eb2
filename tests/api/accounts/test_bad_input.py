"""Bad input: each kind gets the problem it deserves, and none leaves an event."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse
from yarl import URL

from api.accounts.app import create_app
from pipeline.eventstore import EventStore
from pipeline.support.settings import Settings
from tests.harness import cases
from tests.services import NOBODY, Client, problem, serving

TOO_MUCH = 2**53
COMMANDS = ("/create", "/deposit", "/withdraw", "/transfer")


@dataclass
class Bank:
    """The account service with two accounts: one holds 100, the other all it can."""

    client: Client
    store: EventStore
    poor: str
    full: str

    async def post(self, path: str, body: Any, **options: Any) -> ClientResponse:
        """POST the body: as it is when bytes or text, else as JSON."""
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.client.post(path, data=data, headers=headers, **options)


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Bank]:
    """Whatever a test sends to it must leave the number of events as it was."""
    store = EventStore(settings.mongodb_url, settings.mongodb_database)
    async with serving(create_app(settings)) as client:
        ids = []
        for money in (100, TOO_MUCH - 1):
            answer = await client.post("/create", json={"owner": "Ada", "money": money})
            ids.append((await answer.json())["id"])
        before = await store.count()
        yield Bank(client, store, *ids)
        assert await store.count() == before
    await store.close()


@cases(
    "body",
    [
        b"",
        b"{",
        b"hello",
        b"{'owner': 'Ada'}",
        b'\xff\xfe{"money": 1}',
        b'\xef\xbb\xbf{"owner": "Ada", "money": 1}',
        b'{"owner": "\xff", "money": 1}',
        b'{"owner": "\\ud800", "money": 1}',
        b'{"owner": "\xed\xa0\x80", "money": 1}',
        b'{"\\udfff": 1}',
        b'{"owner": "Ada", "money": NaN}',
        b'{"owner": "Ada", "money": Infinity}',
        b'{"owner": "Ada", "money": 01}',
        b'{"owner": "Ada", "money": 1} {}',
        b'{"owner": "Ada", "money": 1, "money": 2}',
        b'{"owner": "Ada", "money": 1, "m\\u006fney": 2}',
        b"[" * 1023 + b"]" * 1023,
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"owner": "Ada", "money": ' + b"9" * 10_000 + b"}",
    ],
)
async def test_what_is_not_json(bank: Bank, body: bytes) -> None:
    for path in COMMANDS:
        answer = await bank.post(path, body)
        assert answer.status == 400, await answer.text()
        assert answer.content_type == "application/problem+json"


@cases("body", [[], "text", 1, None, True, [{}]])
async def test_json_that_is_no_object(bank: Bank, body: Any) -> None:
    for path in COMMANDS:
        document = await problem(await bank.post(path, json.dumps(body)), 400, "invalid-input")
        assert [error["pointer"] for error in document["errors"]] == ["#"]


@cases(
    "money",
    [0, -1, True, False, 1.0, 1.5, 1e3, "1", "", None, [], {}, TOO_MUCH, -TOO_MUCH, 10**18, 10**30],
)
async def test_money_that_is_none(bank: Bank, money: Any) -> None:
    commands: dict[str, dict[str, Any]] = {
        "/deposit": {"id": bank.poor},
        "/withdraw": {"id": bank.poor},
        "/transfer": {"from": bank.full, "to": bank.poor},
    }
    if money != 0 or money is False:  # An account may be opened empty.
        commands["/create"] = {"owner": "Ada"}
    for path, command in commands.items():
        answer = await bank.post(path, command | {"money": money})
        document = await problem(answer, 400, "invalid-input")
        assert [error["pointer"] for error in document["errors"]] == ["#/money"]
        assert "money" in document["detail"]


@cases(
    "owner",
    [
        "",
        " ",
        "\t",
        "\u200b",
        "\u3000",
        "a" * 201,
        "a\x00",
        "a\nb",
        "\x7f",
        "a\x85",
        "a\u2028b",
        "a\x1b[2J",
        "a\u202eb",
        "a\u2066b",
        "a\uffff",
        None,
        1,
        True,
        [],
        {},
        ["Ada"],
    ],
)
async def test_owners_that_are_none(bank: Bank, owner: Any) -> None:
    for answer in (
        await bank.post("/create", {"owner": owner, "money": 1}),
        await bank.client.patch(f"/{bank.poor}", json={"owner": owner}),
    ):
        document = await problem(answer, 400, "invalid-input")
        assert [error["pointer"] for error in document["errors"]] == ["#/owner"]


@cases("text", ["", " \u200b", "a\x00", "a\x1b[2J", "a\u202eb", "é" * 501, 1])
async def test_reasons_that_are_none(bank: Bank, text: Any) -> None:
    for path in ("/freeze", "/unfreeze", "/close"):
        for field in ("reason", "public_reason"):
            answer = await bank.post(path, {"id": bank.poor, field: text})
            document = await problem(answer, 400, "invalid-input")
            assert [error["pointer"] for error in document["errors"]] == [f"#/{field}"]


@cases(
    "account_id",
    [
        "",
        "x",
        NOBODY.lower(),
        NOBODY[1:],
        NOBODY + "0",
        NOBODY + "\n",
        "8" + NOBODY[1:],
        NOBODY[:-1] + "U",
        NOBODY[:-1] + "٣",
        " " + NOBODY[1:],
        None,
        1,
        True,
        [NOBODY],
        {},
    ],
)
async def test_ids_that_are_none(bank: Bank, account_id: Any) -> None:
    for path, command, pointer in (
        ("/deposit", {"id": account_id}, "#/id"),
        ("/withdraw", {"id": account_id}, "#/id"),
        ("/transfer", {"from": account_id, "to": bank.poor}, "#/from"),
        ("/transfer", {"from": bank.poor, "to": account_id}, "#/to"),
    ):
        answer = await bank.post(path, command | {"money": 1})
        document = await problem(answer, 400, "invalid-input")
        assert [error["pointer"] for error in document["errors"]] == [pointer]
    if isinstance(account_id, str) and account_id:
        url = URL("/" + quote(account_id), encoded=True)
        await problem(await bank.client.get(url), 404, "not-found")
        answer = await bank.client.patch(url, json={"owner": "Grace"})
        await problem(answer, 404, "not-found")


async def test_missing_and_unknown_fields_are_all_named(bank: Bank) -> None:
    for path, fields in (
        ("/create", ["owner", "money"]),
        ("/deposit", ["id", "money"]),
        ("/withdraw", ["id", "money"]),
        ("/transfer", ["from", "to", "money"]),
    ):
        answer = await bank.post(path, {"a/b~ü": 1})
        document = await problem(answer, 400, "invalid-input")
        pointers = [error["pointer"] for error in document["errors"]]
        assert pointers == [*(f"#/{field}" for field in fields), "#/a~1b~0%C3%BC"]
    answer = await bank.client.patch(f"/{bank.poor}", json={"owner": "Ada", "money": 1})
    document = await problem(answer, 400, "invalid-input")
    assert document["errors"][0]["pointer"] == "#/money"


async def test_many_faults_make_no_long_answer(bank: Bank) -> None:
    for members, told in ((30, 20), (3000, 1)):
        answer = await bank.post("/create", {f"field-{n}": n for n in range(members)})
        assert len((await problem(answer, 400, "invalid-input"))["errors"]) == told


async def test_a_body_of_64_kib_is_read_and_a_longer_one_is_not(bank: Bank) -> None:
    command = json.dumps({"id": NOBODY, "money": 1}).encode()
    longest = command.ljust(64 * 1024)
    await problem(await bank.post("/deposit", longest), 404, "account-not-found")
    for body in (longest + b" ", command.ljust(1_000_000)):
        await problem(await bank.post("/deposit", body), 413, "body-too-large")
    bomb = gzip.compress(command.ljust(100_000_000))
    answer = await bank.post("/deposit", bomb, headers={"Content-Encoding": "gzip"})
    await problem(answer, 415, "unsupported-encoding")


@cases("kind", ["application/json; charset=utf-8", "Application/JSON", "a/b+json"])
async def test_json_media_types(bank: Bank, kind: str) -> None:
    kind = kind.replace("a/b+json", "application/command+json")
    answer = await bank.post("/deposit", {"id": NOBODY, "money": 1}, headers={"Content-Type": kind})
    await problem(answer, 404, "account-not-found")


@cases(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", "é"]
)
async def test_other_media_types(bank: Bank, kind: str) -> None:
    for path in COMMANDS:
        answer = await bank.post(
            path, {"id": bank.poor, "money": 1}, headers={"Content-Type": kind}
        )
        document = await problem(answer, 415, "unsupported-media-type")
        assert "application/json" in document["detail"]


async def test_a_body_without_media_type_is_refused(bank: Bank) -> None:
    """A page of another site may send such a one without asking."""
    answer = await bank.client.post(
        "/deposit",
        data=json.dumps({"id": bank.poor, "money": 1}).encode(),
        skip_auto_headers=["Content-Type"],
    )
    await problem(answer, 415, "unsupported-media-type")


async def test_commands_on_nobody(bank: Bank) -> None:
    for answer in (
        await bank.post("/deposit", {"id": NOBODY, "money": 1}),
        await bank.post("/withdraw", {"id": NOBODY, "money": 1}),
        await bank.post("/transfer", {"from": NOBODY, "to": bank.poor, "money": 1}),
        await bank.post("/transfer", {"from": bank.poor, "to": NOBODY, "money": 1}),
        await bank.client.patch(f"/{NOBODY}", json={"owner": "Grace"}),
        await bank.client.get(f"/{NOBODY}"),
    ):
        document = await problem(answer, 404, "account-not-found")
        assert document["account"] == NOBODY


async def test_what_the_accounts_refuse(bank: Bank) -> None:
    poor, full = bank.poor, bank.full
    for path, command, status, name in (
        ("/transfer", {"from": poor, "to": poor, "money": 1}, 400, "transfer-to-self"),
        ("/withdraw", {"id": poor, "money": 101}, 422, "insufficient-funds"),
        ("/transfer", {"from": poor, "to": full, "money": 101}, 422, "insufficient-funds"),
        ("/deposit", {"id": full, "money": 1}, 422, "balance-too-large"),
        ("/transfer", {"from": poor, "to": full, "money": 1}, 422, "balance-too-large"),
    ):
        await problem(await bank.post(path, command), status, name)
    for account, money in ((poor, 100), (full, TOO_MUCH - 1)):
        assert (await (await bank.client.get(f"/{account}")).json())["balance"] == money


async def test_routes_and_methods_that_are_none(bank: Bank) -> None:
    for path in ("/", "/nothing", "/create/", f"/{NOBODY}/x", "/%00", "/%ff", "/create%2F"):
        await problem(await bank.client.get(URL(path, encoded=True)), 404, "not-found")
    for method, path, allowed in (
        ("GET", "/create", "POST"),
        ("DELETE", "/deposit", "POST"),
        ("POST", f"/{NOBODY}", "GET,HEAD,PATCH"),
        ("POST", "/livez", "GET,HEAD"),
    ):
        answer = await bank.client.request(method, path)
        await problem(answer, 405, "method-not-allowed")
        assert sorted(answer.headers["Allow"].split(",")) == allowed.split(",")


@cases(
    "request_line",
    [
        b"GET /\xff HTTP/1.1",
        b"GET /?\xff=\xff HTTP/1.1",
        b"GET /\xed\xa0\x80 HTTP/1.1",
        b"BREW / HTTP/1.1",
        b"GET //host/%zz HTTP/1.1",
        b"GET http://x/y HTTP/1.1",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\nX-Correlation-ID: \xff",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1",
    ],
)
async def test_raw_requests_of_no_sense(bank: Bank, request_line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.client.port)
    writer.write(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert 400 <= int(answer.split()[1]) < 500


async def test_a_client_that_leaves_in_the_middle_of_its_body(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", bank.client.port)
    head = b"POST /create HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n"
    writer.write(head + b'{"owner": "Ada", ')
    await writer.drain()
    writer.close()
    await problem(await bank.client.get(f"/{NOBODY}"), 404, "account-not-found")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
