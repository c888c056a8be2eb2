"""The README's own commands, run as they stand, give what the README shows."""

import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.embedded.server_binaries import SERVER_BINARIES
from pipeline.support.settings import Settings
from tests.harness import Role, eventually
from tests.readme import Mismatch, Names, Shell, Step, steps
from tests.wheel import clean_environ

README = Path(__file__).parents[1] / "README.md"

LEFT_TO_CI = ("make ",)
"""`.ci/run` runs `make test`; what `make up` and `make demo` start has test_up and test_demo."""
NEEDS_MORE = ("docker ", "nats ")
"""Docker and the nats command line are not everywhere; compose has its test, so has inspection."""
RUN_BY_UP = ("bank forwarder",)
"""The roles one by one, which `bank up` runs here."""


@pytest.fixture
async def bank(settings: Settings) -> AsyncIterator[Settings]:
    """A bank as `bank up` starts it, on servers that run already."""
    without = [word for name in SERVER_BINARIES for word in ("--without", name)]
    # The README's few seconds of grace, with room for a slow machine.
    settings = settings.model_copy(
        update={"index_grace_seconds": 15.0, "projections": "balance statement"}
    )
    async with Role(settings, "bank", "up", *without) as up:
        await eventually(
            lambda: "The bank is open" in up.log(), seconds=120, message="the bank opens"
        )
        yield settings


def test_the_readme_has_the_seeds_commands() -> None:
    commands = "\n".join(step.command for step in steps(README.read_text()))
    for part in (
        "localhost:8000/create",
        "localhost:8000/<ID>",
        "localhost:8000/deposit",
        "localhost:8000/withdraw",
        "localhost:8000/transfer",
        "localhost:8030/",
        "localhost:8030/<ID>",
        "localhost:8030/balance/rebuild",
        '"owner.keyword": {"order": "asc"}',
        "balance/_doc/<ID>?pretty",
        '"event_id": {"order": "desc"}',
        "_cat/indices",
        "-X DELETE localhost:9200/balance-1",
        "-X PUT localhost:9200/balance",
    ):
        assert part in commands


@pytest.mark.drill
@pytest.mark.elasticsearch
async def test_every_command_gives_what_is_shown(bank: Settings) -> None:
    shell = Shell(bank, clean_environ(sysconfig.get_path("scripts")))
    names, ran = Names(), 0
    for step in steps(README.read_text()):
        if not step.command.startswith((*LEFT_TO_CI, *NEEDS_MORE, *RUN_BY_UP)):
            await shell.follow(step, names)
            ran += 1
    assert ran == 34
    assert names.bound.keys() == {"ID", "OTHER", "TRANSFER", "REBUILD", "CORRELATION"}


# ------------------------------------------------------------------ the convention itself


def one(markdown: str) -> Step:
    (step,) = steps(markdown)
    return step


def test_an_answer_is_the_block_right_after_its_command() -> None:
    answered = "```sh\necho 1\n```\n\n```json\n1\n```\n"
    assert one(answered) == Step("echo 1", "json", "1")
    spoken = "```sh\necho 1\n```\nAnd then:\n```json\n1\n```\n"
    assert one(spoken) == Step("echo 1")


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ('{"a": 1}', '{"a":1}'),
        ('{"a": "…"}', '{"a":[1,2]}'),
        ('{"a": 1, "…": "…"}', '{"a":1,"b":2}'),
        ('{"a": "<ID>", "b": "<ID>"}', '{"a":"x","b":"x"}'),
        ('[{"a": "<ID>"}]', '[{"a":"x"}]'),
    ],
)
def test_json_that_agrees(shown: str, given: str) -> None:
    Names().compare(Step("x", "json", shown), given)


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ('{"a": 1}', '{"a":2}'),
        ('{"a": 1}', '{"a":1,"b":2}'),
        ('{"a": 1}', "{}"),
        ('{"a": "<ID>", "b": "<ID>"}', '{"a":"x","b":"y"}'),
        ('{"a": [1]}', '{"a":[1,1]}'),
        ("1", "no JSON"),
    ],
)
def test_json_that_does_not_agree(shown: str, given: str) -> None:
    with pytest.raises(Mismatch):
        Names().compare(Step("x", "json", shown), given)


def test_a_name_keeps_what_it_was_bound_to() -> None:
    names = Names()
    names.compare(Step("x", "json", '{"a": "<ID>"}'), '{"a":"x"}')
    assert names.fill("curl <ID>/<OTHER>") == "curl x/<OTHER>"
    with pytest.raises(Mismatch):
        names.compare(Step("x", "json", '{"a": "<ID>"}'), '{"a":"y"}')


def test_text_by_lines_with_anything_between() -> None:
    step = Step("x", "text", "…\nred … 1\n…")
    Names().compare(step, "first\nred  and   blue  1\nlast\n")
    Names().compare(step, "red 1\n")
    for wrong in ("blue 1\n", "red 2\n", "dark red 1\n"):
        with pytest.raises(Mismatch):
            Names().compare(step, wrong)
