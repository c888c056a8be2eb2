"""Clients of the account services: random commands, each with a key, repeated until answered."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp

from tests.torture.breaches import Breaches
from tests.torture.commands import Commands, Draws, void
from tests.torture.gate import Gate
from tests.torture.history import LOST, Attempt, History, Sent

CLIENTS: Final = 8
_PAUSE: Final = (0.02, 0.14)
"""Between two commands of a client, in seconds: so many that the machine is not the fault."""
_SECONDS: Final = 6.0
_SOON: Final = timedelta(seconds=10)
_TWICE, _LATER, _REUSED = 0.04, 0.06, 0.02


class Clients:
    """All clients. `urls` are the replicas'; which one gets an attempt is drawn each time."""

    def __init__(
        self,
        urls: Sequence[str],
        gate: Gate,
        seed: int,
        history: History,
        breaches: Breaches,
        commands: Callable[[random.Random, History], Draws] = Commands,
    ) -> None:
        self._commands = commands
        self._urls, self._gate, self._seed = urls, gate, seed
        self._history, self._breaches = history, breaches
        self._stop = asyncio.Event()
        self._http: aiohttp.ClientSession

    async def run(self) -> None:
        """Send until `stop`; what has no answer then is left for `finish`."""
        async with self._session() as self._http, asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(random.Random(f"client {self._seed} {number}")))

    def stop(self) -> None:
        self._stop.set()

    async def finish(self, seconds: float) -> None:
        """Send again what has no answer, until each has one or the time is up; and end the holds
        that would change a bank which is judged."""
        open_ = [sent for sent in self._history.all if sent.outcome == "unknown"]
        async with self._session() as self._http:
            try:
                async with asyncio.timeout(seconds):
                    await self._all_told(iter(open_))
                    await self._all_told(self._voids())
            except TimeoutError:
                left = [sent for sent in self._history.all if not sent.told]
                what = ", ".join(f"{sent.command.path} {sent.key}" for sent in left[:3])
                self._breaches.add(12, f"{len(left)} are still not answered: {what}")

    async def _all_told(self, left: Iterator[Sent]) -> None:
        async def client(chance: random.Random) -> None:
            for sent in left:
                await self._until_told(chance, sent, for_ever=True)

        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(client(random.Random(f"finish {self._seed} {number}")))

    def _voids(self) -> Iterator[Sent]:
        """Of all holds that expire later than soon; most have ended, which is refused."""
        soon = datetime.now(UTC) + _SOON
        late = [(n, of) for n, (of, until) in self._history.holds.items() if until > soon]
        for name, account in late:
            yield self._history.begin(f"void {name}", void(account, name))

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        return aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))

    async def _client(self, chance: random.Random) -> None:
        commands = self._commands(chance, self._history)
        while not self._stop.is_set():
            await self._one(chance, commands)
            await asyncio.sleep(chance.uniform(*_PAUSE))

    async def _one(self, chance: random.Random, commands: Draws) -> None:
        sent = self._history.begin(f"{chance.getrandbits(96):024x}", commands.next())
        if chance.random() < _TWICE:
            await asyncio.gather(*(self._attempt(chance, sent) for _ in "ab"))
        await self._until_told(chance, sent)
        if sent.answer is None:
            return
        if chance.random() < _LATER:
            await self._attempt(chance, sent)
        other = commands.other(sent.command)
        if other is not None and chance.random() < _REUSED:
            await self._attempt(chance, self._history.begin(sent.key, other, reused=True))

    async def _until_told(
        self, chance: random.Random, sent: Sent, *, for_ever: bool = False
    ) -> None:
        """Send until it is acknowledged or refused; a refusal after a lost answer is one too."""
        pause = 0.1
        while True:
            await self._attempt(chance, sent)
            if sent.told:
                return
            if self._stop.is_set() and not for_ever:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)

    async def _attempt(self, chance: random.Random, sent: Sent) -> None:
        async with self._gate.passing():
            attempt = await self._answered(chance.randrange(len(self._urls)), sent)
        first = sent.answer
        sent.attempts.append(attempt)
        self._history.learn(attempt)
        if first is not None and attempt.acknowledged and not sent.reused:
            same = (first.status, first.body, first.etag) == attempt[2:]
            self._breaches.judge(8, same, f"{sent.key}: {first.body!r}, then {attempt.body!r}")

    async def _answered(self, number: int, sent: Sent) -> Attempt:
        at, command = self._history.now(), sent.command
        try:
            async with self._http.request(
                command.method,
                self._urls[number] + command.path,
                json=command.body,
                headers={"Idempotency-Key": sent.key},
            ) as answer:
                body = await answer.read()
                return Attempt(at, number, answer.status, body, answer.headers.get("ETag"))
        except (aiohttp.ClientError, TimeoutError):
            return Attempt(at, number, LOST, b"", None)
