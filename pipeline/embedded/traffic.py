"""A load generator for the account service: opens accounts, sends commands, records the answers.

Every command has an idempotency key, so the client resends a command without an answer, and sends
some commands twice concurrently.

The seed alone determines the commands. A few accounts get most of them (Zipf); a few are frozen,
unfrozen and closed meanwhile. Some commands must fail, with a status that the client checks. What
is held is captured or voided afterwards, or left to its time; some transfers are reversed.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Any, Final, Literal, NamedTuple

import aiohttp
import orjson
from ulid import ULID

from pipeline.operations.checker.history import Answer, Command, Kind

IN_FLIGHT: Final = 64
_SECONDS: Final = 60.0
_TRIES: Final = 5
_PAUSE: Final = 1.0
_TWICE: Final = 50
"""One command of this many is sent twice."""
_ZIPF: Final = 0.8
_MORE_THAN_ANYBODY_HAS: Final = 2**52

DONE: Final = frozenset({200})
DONE_OR_INSUFFICIENT: Final = frozenset({200, 422})
CLOSED: Final = frozenset({409})
HELD: Final = frozenset({200, 409, 422})
"""Of a hold: an account may have too many."""
_LONG: Final = 3600
_SHORT: Final = 3
"""Seconds that a hold lasts which is to be ended, and at most which is to expire."""


class Next(NamedTuple):
    """What is sent after a command that was acknowledged; `expire`: nothing, it ends by itself."""

    kind: Literal["capture", "void", "reverse", "expire"]
    money: int = 0


EXPIRE: Final = Next("expire")


class TrafficRequest(NamedTuple):
    """A command, its HTTP request, the statuses that are expected, and what comes after it."""

    command: Command
    path: str
    body: dict[str, Any]
    expected: frozenset[int]
    method: str = "POST"
    then: Next | None = None


@dataclass(slots=True)
class Traffic:
    """Sends requests, `IN_FLIGHT` at a time.

    `history` has each command with its answer; `repeats`, those sent again with the same key.
    `expiring` are the holds that are to end by themselves, with their accounts.
    """

    http: aiohttp.ClientSession
    seed: int
    on_answer: Callable[[], None] = lambda: None
    accounts: list[str] = field(default_factory=list)
    history: list[Answer] = field(default_factory=list)
    repeats: list[Answer] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    expiring: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    async def open_accounts(self, number: int) -> None:
        chance = random.Random(self.seed)
        await self._send(_creations(chance, number))
        self.accounts = [answer.id for answer in self.history if answer.acknowledged]

    async def send_commands(self, number: int) -> None:
        """Send `number` commands to the accounts that were opened."""
        await self._send(_mixed(random.Random(self.seed + 1), self.accounts, number))

    async def see_expired(self) -> bool:
        """Whether all holds that were left to their time have ended."""
        for account in {*self.expiring.values()}:
            async with self.http.get(f"/{account}") as response:
                shown = _document(await response.read()).get("holds")
            if shown is None:
                return False
            open_ = {hold["id"] for hold in shown}
            ended = [name for name, of in self.expiring.items() if of == account]
            for name in ended:
                if name not in open_:
                    del self.expiring[name]
        return not self.expiring

    async def _send(self, requests: Iterator[TrafficRequest]) -> None:
        async def client() -> None:
            for request in requests:
                await self._one(request)
                self.on_answer()

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(client())

    async def _one(self, request: TrafficRequest) -> None:
        key, twice = str(ULID()), next(self._numbers) % _TWICE == 0
        first, *others = await asyncio.gather(
            *(self._answered(request, key) for _ in range(1 + twice))
        )
        self.history.append(first)
        self.repeats += others
        if request.then is not None and first.acknowledged:
            await self._follow(request, request.then, _document(first.body))

    async def _follow(self, request: TrafficRequest, then: Next, answer: dict[str, Any]) -> None:
        if then.kind == "expire":
            self.expiring[answer["hold"]["id"]] = request.command.account
        else:
            await self._one(_following(request, then, answer))

    async def _answered(self, request: TrafficRequest, key: str) -> Answer:
        status, body = await self._ask(request, key)
        answer = _document(body)
        if status not in request.expected:
            detail = answer.get("detail", "no answer")
            self.surprises.append(
                f"{request.method} {request.path} {request.body}: {status} {detail}, "
                f"not {' or '.join(map(str, sorted(request.expected)))}"
            )
        account, version = answer.get("id", ""), answer.get("version", 0)
        return Answer(request.command, status, account, version, key, body)

    async def _ask(self, request: TrafficRequest, key: str) -> tuple[int, bytes]:
        """The answer, after up to `_TRIES` tries; the status is 0 if there is none."""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE)
            status, body = await self._try(request, key)
            if status not in (0, 503):
                break
        return status, body

    async def _try(self, request: TrafficRequest, key: str) -> tuple[int, bytes]:
        headers = {"Idempotency-Key": key}
        try:
            async with self.http.request(
                request.method, request.path, json=request.body, headers=headers
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError):
            return 0, b""


def _following(request: TrafficRequest, then: Next, answer: dict[str, Any]) -> TrafficRequest:
    """The command about what an answer named. Other commands may come first: an account may be
    frozen, or its money gone."""
    account = request.command.account
    if then.kind == "reverse":
        about = {"version": answer["version"], "transfer": answer["transfer"]["id"]}
        command = Command("reverse", account, request.command.money, to=request.command.to)
        expected = request.expected | DONE_OR_INSUFFICIENT
        return TrafficRequest(command, "/reverse", {"id": account, **about}, expected)
    kind: Kind = "capture" if then.kind == "capture" else "void"
    hold, body = answer["hold"]["id"], {"money": then.money} if then.money else {}
    return TrafficRequest(
        Command(kind, account, then.money, to=hold),
        f"/{kind}",
        {"id": account, "hold": hold, **body},
        DONE | (request.expected & CLOSED),
    )


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def session(address: str) -> aiohttp.ClientSession:
    """An HTTP session for `IN_FLIGHT` concurrent requests."""
    return aiohttp.ClientSession(
        address,
        connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
        timeout=aiohttp.ClientTimeout(total=_SECONDS),
    )


def _creations(chance: random.Random, number: int) -> Iterator[TrafficRequest]:
    for n in range(number):
        owner, money = f"Owner {n:06}", chance.randrange(10_000) if n % 10 else 0
        yield TrafficRequest(
            Command("create", money=money, owner=owner),
            "/create",
            {"owner": owner, "money": money},
            frozenset({201}),
        )


def _mixed(chance: random.Random, accounts: list[str], number: int) -> Iterator[TrafficRequest]:
    """Random commands. Freezes and closures go to the least busy tenth of the accounts, where other
    commands may therefore be refused."""
    weights = list(accumulate(1 / rank**_ZIPF for rank in range(1, len(accounts) + 1)))
    often_closed = accounts[-max(1, len(accounts) // 10) :]
    makers: dict[Callable[[random.Random, list[str], int], TrafficRequest], int] = {
        _deposit: 40,
        _withdrawal: 20,
        _transfer: 18,
        _new_owner: 7,
        _too_much: 5,
        _status_change: 3,
        _unknown_account: 5,
        _bad_input: 5,
        _hold: 6,
        _mistake: 2,
    }
    kinds = chance.choices(list(makers), list(makers.values()), k=number)
    for n, make in enumerate(kinds):
        hot = chance.choices(accounts, cum_weights=weights, k=2)
        request = make(chance, often_closed if make is _status_change else hot, n)
        if {request.command.account, request.command.to} & set(often_closed):
            request = request._replace(expected=request.expected | CLOSED)
        yield request


def _of(kind: Kind, account: str, money: int, expected: frozenset[int]) -> TrafficRequest:
    body = {"id": account, "money": money}
    return TrafficRequest(Command(kind, account, money), f"/{kind}", body, expected)


def _deposit(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    return _of("deposit", hot[0], chance.randint(1, 1000), DONE)


def _withdrawal(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    return _of("withdraw", hot[0], chance.randint(1, 1000), DONE_OR_INSUFFICIENT)


def _too_much(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    return _of("withdraw", hot[0], _MORE_THAN_ANYBODY_HAS, frozenset({422}))


def _status_change(chance: random.Random, often_closed: list[str], _: int) -> TrafficRequest:
    kind: Kind = chance.choices(("freeze", "unfreeze", "close"), (4, 5, 1))[0]
    account = chance.choice(often_closed)
    return TrafficRequest(Command(kind, account), f"/{kind}", {"id": account}, DONE)


def _unknown_account(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    return _of("deposit", str(ULID()), chance.randint(1, 1000), frozenset({404}))


def _bad_input(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    bad = chance.choice([0, -5, 1.5, True, "5", 2**53, None])
    request = _of("deposit", hot[0], 0, frozenset({400}))
    return request._replace(body={"id": hot[0], "money": bad})


def _transfer(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    payer, payee, money = *hot, chance.randint(1, 500)
    return TrafficRequest(
        Command("transfer", payer, money, to=payee),
        "/transfer",
        {"from": payer, "to": payee, "money": money},
        DONE_OR_INSUFFICIENT if payer != payee else frozenset({400}),
    )


def _mistake(chance: random.Random, hot: list[str], n: int) -> TrafficRequest:
    return _transfer(chance, hot, n)._replace(then=Next("reverse"))


def _hold(chance: random.Random, hot: list[str], _: int) -> TrafficRequest:
    money = chance.randint(1, 500)
    then = chance.choice(
        (Next("capture", money), Next("capture", chance.randint(1, money)), Next("void"), EXPIRE)
    )
    seconds = chance.randint(1, _SHORT) if then == EXPIRE else _LONG
    return TrafficRequest(
        Command("hold", hot[0], money),
        "/hold",
        {"id": hot[0], "money": money, "seconds": seconds},
        HELD,
        then=then,
    )


def _new_owner(chance: random.Random, hot: list[str], n: int) -> TrafficRequest:
    owner = f"Owner, the {n}th renamed"
    command = Command("owner", hot[0], owner=owner)
    return TrafficRequest(command, f"/{hot[0]}", {"owner": owner}, DONE, "PATCH")
