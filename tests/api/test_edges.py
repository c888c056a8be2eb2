"""What is refused before a handler does anything: by a head, a host, a page of another site, and by
size. On a service that has nothing behind it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import pytest
from aiohttp import web
from pydantic import Field

from api.http import headers
from api.http.inputs import Input, body, query
from api.http.operations import Answer, operation
from api.http.problems import Problem
from api.security.access import OPERATOR, allowed
from api.security.csrf import typed
from api.server import application
from pipeline.support.metrics import Metrics
from pipeline.support.settings import Settings
from tests.effort import effort
from tests.harness import rounds
from tests.services import Client, problem, serving

FIREFOX: Final = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Firefox/60.0"}
EVERY_HEADER: Final = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Date",
    "Expect",
    "Forwarded",
    "Host",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Origin",
    "Purpose",
    "Range",
    "Referer",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Sec-Purpose",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "User-Agent",
    "Via",
    "X-Correlation-ID",
    "X-Forwarded-For",
    "X-Moz",
    "X-Purpose",
    "baggage",
    "traceparent",
    "tracestate",
)
NASTY: Final = (
    b"\xe9",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"http://[",
    b"http://[::1",
    b"//[x]:y/",
    b"http://x:99999999999/",
    b"[",
    b"9" * 5000,
    b"-1",
    b"1e999",
    b"0x10",
    b"\t",
    b",",
    b"," * 5000,
    b";" * 5000,
    b'"',
    b'"' * 5000,
    b"=?utf-8?q?=ff?=",
    b"%",
    b"%ff%zz",
    b"bytes=-",
    b"chunked, chunked",
    b"gzip, chunked",
    b"q=;q=",
    b"Bearer ",
    b"Bearer \xe9",
    b"00-\xff-\xff-01",
    b"Thu, 99 Foo 99999 99:99:99 GMT",
)


class Named(Input):
    """A body."""

    name: Annotated[str, Field(max_length=10)]
    numbers: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=256)] | None = None


class Asked(Input):
    """A query."""

    limit: str = ""


@allowed(OPERATOR)
@operation(Answer({}), body=Named)
async def post(request: web.Request) -> web.Response:
    """Look at a body, and at all headers that any route looks at."""
    headers.idempotency_key(request)
    headers.if_match(request)
    return web.json_response((await body(request, Named)).model_dump())


@allowed(OPERATOR)
@operation(Answer({}), query=Asked)
async def get(request: web.Request) -> web.Response:
    """Look at a query and a path."""
    query(request, Asked)
    headers.prefers_html(request)
    if "name" in request.match_info:
        raise Problem(404, "not-found", f"There is no {request.match_info['name']}.")
    return web.json_response({})


@allowed(OPERATOR)
@typed
@operation(Answer({}))
async def changing(_: web.Request) -> web.Response:
    """Change something."""
    return web.json_response({})


@allowed(OPERATOR)
@operation(Answer({}))
async def bare(_: web.Request) -> web.Response:
    """Change something without a body."""
    return web.json_response({})


ROUTES: Final = [
    web.get("/", get),
    web.get("/of/{name}", get),
    web.post("/", post),
    web.get("/change", changing, allow_head=False),
    web.post("/change", bare),
]


@asynccontextmanager
async def service(**changes: Any) -> AsyncIterator[Client]:
    settings = Settings().model_copy(update=changes)
    app = application(settings, ROUTES, {}, lambda _: None, Metrics("accounts"))
    async with serving(app) as client:
        yield client


async def raw(client: Client, request: bytes) -> tuple[int, dict[str, Any] | None]:
    """Status and document of the answer; 0 for a connection that ended without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            answer = await reader.read()
    except ConnectionError:
        return 0, None
    finally:
        writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return status, json.loads(text) if b"json" in head.lower() and text else None


def requests_with(name: str, value: bytes) -> Iterator[bytes]:
    line = name.encode() + b": " + value + b"\r\n"
    host = b"" if name == "Host" else b"Host: localhost\r\n"
    for path in (b"/", b"/nothing", b"/change", b"/of/x"):
        yield b"GET " + path + b" HTTP/1.1\r\n" + host + b"Connection: close\r\n" + line + b"\r\n"
    body = b'{"name": "x"}'
    length = b"" if name == "Content-Length" else b"Content-Length: %d\r\n" % len(body)
    kind = b"" if name == "Content-Type" else b"Content-Type: application/json\r\n"
    head = b"POST / HTTP/1.1\r\nConnection: close\r\n" + host + length + kind
    yield head + line + b"\r\n" + body


async def all_refused_or_served(client: Client, name: str, value: bytes) -> None:
    for request in requests_with(name, value):
        status, document = await raw(client, request)
        assert status < 500, (status, request[:200])
        if status >= 400 and document is not None:
            assert document["status"] == status
            assert document["type"].startswith("/problems/"), (document, request[:200])


@pytest.mark.parametrize("name", EVERY_HEADER)
async def test_no_header_makes_a_fault_of_ours(name: str) -> None:
    chance = random.Random(name)
    async with service(http_body_seconds=0.5) as client:
        drawn = (
            bytes(b for b in chance.randbytes(chance.randrange(1, 60)) if b not in b"\r\n\0")
            for _ in range(rounds(5, 500))
        )
        for value in (*NASTY, *drawn):
            await all_refused_or_served(client, name, value)


@pytest.mark.parametrize(
    "name", [b"\xff", b"%ff", b"%ED%A0%80", b"%zz", b"%", b"\xed\xa0\x80", b"%00"]
)
async def test_no_path_and_no_query_makes_a_fault_of_ours(name: bytes) -> None:
    async with service() as client:
        for place in (
            b"/of/" + name,
            b"/problems/" + name,
            b"/?" + name + b"=1",
            b"/?limit=" + name,
        ):
            request = b"GET " + place + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            status, _ = await raw(client, request)
            assert status < 500, place


async def test_an_expectation_gets_a_problem() -> None:
    async with service() as client:
        for path in ("/", "/nothing"):
            answer = await client.get(path, headers={"Expect": "200-ok"})
            await problem(answer, 417, "expectation-failed")
        answer = await client.post("/", json={"name": "x"}, expect100=True)
        assert answer.status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "identity, gzip", "é"])
async def test_no_encoding_of_a_body_is_taken(encoding: str) -> None:
    async with service() as client:
        for method in ("GET", "POST", "DELETE", "PATCH"):
            answer = await client.request(
                method, "/", data=b"x" * 100, headers={"Content-Encoding": encoding}
            )
            await problem(answer, 415, "unsupported-encoding")
        answer = await client.post(
            "/", json={"name": "x"}, headers={"Content-Encoding": "identity"}
        )
        assert answer.status == 200


@pytest.mark.parametrize("lines", [1, 100])
async def test_a_head_has_16_kib(lines: int) -> None:
    async with service() as client:
        line = "a," * (8000 // 2)
        for name in ("Accept", "If-Match", "Cookie", "baggage"):
            begun = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            request = (begun + f"{name}: {line}\r\n" * lines + "\r\n").encode()

            async def head(request: bytes = request) -> None:
                status, _ = await raw(client, request)
                assert status == (200 if lines == 1 else 431)

            async def plain(request: bytes = f"{begun}\r\n".encode()) -> None:
                status, _ = await raw(client, request)
                assert status == 200

            assert await effort(head, plain) < 20


async def test_half_a_body_is_not_waited_for() -> None:
    async with service(http_body_seconds=0.5) as client:
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for rest in ("Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
            status, document = await raw(client, (head + rest).encode())
            assert document is not None
            assert (status, document["type"]) == (408, "/problems/request-timeout")


@pytest.mark.parametrize(
    "sent",
    [
        {f"field-{n}": n for n in range(3000)},
        {"name": {f"field-{n}": n for n in range(3000)}},
        [{f"{n}": n for n in range(33)}],
    ],
)
async def test_members_are_counted_before_they_are_looked_at(sent: Any) -> None:
    async with service() as client:
        document = await problem(await client.post("/", json=sent), 400, "invalid-input")
        assert "more than 32 members" in document["detail"]
        assert len(document["errors"]) == 1


@pytest.mark.parametrize(
    "sent",
    [
        json.dumps({f"field-{n}": n for n in range(3000)}),
        json.dumps({"name": "x", "numbers": [-1] * 15_000}),
        json.dumps({"name": "x", "numbers": ["x"] * 12_000}),
        json.dumps({"name": "x", "numbers": [{}] * 15_000}),
        '{"name": ' + "9" * 60_000 + "}",
        '{"name": ' + "9" * 4_000 + "}",
        '{"name": 0.' + "9" * 60_000 + "}",
        '{"name": ' + "[" * 1000 + "]" * 1000 + "}",
        '{"name": "' + "\\u0001" * 10_000 + '"}',
        '{"' + "x" * 60_000 + '": 1}',
        '{"name": 1' + ', "name": 1' * 5_000 + "}",
    ],
)
async def test_no_body_costs_much_more_than_one_long_text(sent: str) -> None:
    async with service() as client:

        async def refused(body: str) -> None:
            answer = await client.post("/", data=body, headers={"Content-Type": "application/json"})
            assert answer.status == 400
            assert len(await answer.read()) < 10_000

        text = json.dumps({"name": "x" * 60_000})
        assert await effort(lambda: refused(sent), lambda: refused(text)) < 20


@pytest.mark.parametrize(
    "query", ["&".join(["a"] * 3900), "&".join(f"{n}" for n in range(1500)), "&" * 7900]
)
async def test_no_query_costs_much_more_than_one_long_parameter(query: str) -> None:
    async with service() as client:

        async def refused() -> None:
            document = await problem(await client.get(f"/?{query}"), 400, "invalid-input")
            assert "more than 32 parameters" in document["detail"]

        async def long() -> None:
            await client.get(f"/?a={'x' * 7800}")

        assert await effort(refused, long) < 20


@pytest.mark.parametrize("keys", ["off", "off-although-others-can-reach-it"])
async def test_a_name_that_another_site_may_have_is_refused(keys: str) -> None:
    async with service(host="0.0.0.0", keys=keys, allowed_hosts="accounts bank.example") as client:
        for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "accounts:8000", "BANK.example"):
            assert (await client.get("/", headers={"Host": host})).status == 200
        for host in ("evil.example", "localhost.evil.example", "x@localhost", "bank-example", ""):
            for method, path in (("GET", "/"), ("POST", "/change"), ("GET", "/livez")):
                ours = {
                    "Host": host or "x",
                    "Origin": f"http://{host}",
                    "Sec-Fetch-Site": "same-origin",
                }
                answer = await client.request(method, path, headers=ours)
                await problem(answer, 403, "cross-site")
        status, _ = await raw(
            client, b"GET http://evil.example/ HTTP/1.0\r\nHost: localhost\r\n\r\n"
        )
        assert status == 403


@pytest.mark.parametrize(
    "given",
    [
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {
            "Sec-Fetch-Site": "none",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
            "Sec-Purpose": "prefetch;prerender",
        },
        {**FIREFOX, "Accept": "image/webp,*/*"},
        {**FIREFOX, "Accept": "*/*"},
        {**FIREFOX, "Accept": "text/css,*/*;q=0.1"},
        {**FIREFOX, "Accept": "text/html,*/*;q=0.1", "Referer": "http://evil.example/"},
        {**FIREFOX, "Accept": "text/html,*/*;q=0.1", "Referer": "http://["},
        {**FIREFOX, "Accept": "text/html,*/*;q=0.1", "Origin": "null"},
        {**FIREFOX, "Accept": "text/html", "X-Moz": "prefetch"},
        {"Accept": "image/png"},
        {"Referer": "http://evil.example/"},
    ],
)
async def test_a_page_can_not_embed_what_changes_something(given: dict[str, str]) -> None:
    async with service() as client:
        await problem(await client.get("/change", headers=given), 403, "cross-site")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"User-Agent": "curl/8.5.0", "Accept": "*/*"},
        {"User-Agent": "Wget/1.21", "Accept": "*/*"},
        {"User-Agent": "Python-urllib/3.11"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {**FIREFOX, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
    ],
)
async def test_a_person_can_type_it(given: dict[str, str]) -> None:
    async with service() as client:
        assert (await client.get("/change", headers=given)).status == 200


@pytest.mark.parametrize(
    "given",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Referer": "http://evil.example/x"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain;charset=UTF-8"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_changes_nothing_on_old_browsers_too(
    given: dict[str, str],
) -> None:
    async with service() as client:
        await problem(await client.post("/change", headers=given), 403, "cross-site")
        assert (await client.post("/change")).status == 200


async def test_nothing_of_an_account_is_cached() -> None:
    async with service() as client:
        for path in ("/", "/nothing", "/livez", "/openapi.json"):
            async with client.get(path) as answer:
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Server"] == "bank"
