"""One run from its beginning to its verdict."""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.harness import eventually
from tests.torture.breaches import Breaches
from tests.torture.clients import Clients
from tests.torture.history import History
from tests.torture.kinds import EMBEDDED, Kind
from tests.torture.nemesis import Nemesis
from tests.torture.readers import Readers
from tests.torture.schedule import Step, schedule
from tests.torture.servers import SERVERS
from tests.torture.watch import Watch
from tests.torture.world import World


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, on which kind of servers. `settle` is how long the bank may take to come
    to rest, in seconds."""

    seed: int
    minutes: float
    faults: tuple[str, ...]
    settle: float = EMBEDDED.settle
    kind: Kind = EMBEDDED

    @property
    def steps(self) -> list[Step]:
        return schedule(self.seed, self.minutes, self.faults, self.kind.pace)


@dataclass
class Outcome:
    """What came of a plan; `folder` has history and logs."""

    plan: Plan
    folder: Path
    history: History = field(default_factory=History)
    breaches: Breaches = field(default_factory=Breaches)
    begun: list[Step] = field(default_factory=list)
    missed: dict[Step, str] = field(default_factory=dict)
    phases: list[tuple[str, float]] = field(default_factory=list)
    """What was reached, and after how many seconds."""

    def reached(self, phase: str) -> None:
        self.phases.append((phase, self.history.now()))

    @property
    def holds(self) -> bool:
        return not self.breaches.found


async def torture(plan: Plan) -> Outcome:
    """Run it whole. It ends early when an invariant is seen broken."""
    outcome = Outcome(plan, Path(tempfile.mkdtemp(prefix="bank-torture-")))
    async with AsyncExitStack() as stack:
        world = World(await plan.kind.begin(outcome.folder, stack))
        await world.begin(stack)
        stack.push_async_callback(_keep_logs, outcome, world)
        outcome.reached("all at work")
        await _under_load(world, outcome)
        outcome.reached("all answered")
        outcome.breaches.live = False
        settings = world.settings
        judge = plan.kind.judge(
            {name: settings.access(name).url for name in SERVERS},
            settings.mongodb_database,
            world.ask_balances,
            outcome.history,
            outcome.breaches,
            settings.stream_replicas,
        )
        try:
            await judge.judge(plan.settle)
        except Exception as error:  # a bank that can't be judged is no sound one
            outcome.breaches.add(12, f"the judge could not end: {error!r}")
        outcome.reached("judged")
    return outcome


async def _under_load(world: World, outcome: Outcome) -> None:
    """Clients, readers, watch and nemesis; then peace, until every client has its answers."""
    plan, history, breaches = outcome.plan, outcome.history, outcome.breaches
    draws = plan.kind.commands
    clients = Clients(world.accounts, world.gate, plan.seed, history, breaches, draws)
    onlookers: list[Readers | Watch] = [Watch(world, breaches)]
    if plan.kind.reads:
        onlookers.append(Readers(world, plan.seed, history, breaches))
    nemesis = Nemesis(world, plan.steps, plan.kind.faults, plan.kind.patience)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(clients.run())
        for each in onlookers:
            tasks.create_task(each.run())
        await nemesis.run(breaches.broken)
        outcome.begun, outcome.missed = nemesis.begun, nemesis.missed
        outcome.reached("faults over")
        await world.restore()
        try:
            await world.at_work(plan.settle)
        except AssertionError as error:
            breaches.add(12, str(error))
        await world.thin()
        clients.stop()
        await sending
        await clients.finish(plan.settle)
        # One at least, for no fault may have come to it.
        more = [*history.versions][:1] if "forget" in plan.faults else []
        for account in dict.fromkeys([*world.forgotten, *more]):
            try:
                await eventually(partial(world.forget, account), seconds=plan.settle)
            except AssertionError:
                breaches.add(12, f"{account} can't be forgotten")
        for each in onlookers:
            each.stop()


async def _keep_logs(outcome: Outcome, world: World) -> None:
    for name, role in world.roles.items():
        (outcome.folder / f"{name}.log").write_text(role.log())
    await world.servers.keep_logs(outcome.folder)
    outcome.history.write(outcome.folder / "history.jsonl")
