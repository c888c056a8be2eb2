"""`--help` of every command has examples that the command itself takes, and names no option that
is none; the shells complete commands and options."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.support.settings import load

DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy.md"
SCRIPTS = sysconfig.get_path("scripts")
SHELLS = ("bash", "zsh", "fish")


def every(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of each command, groups and what is in them."""
    if words:
        yield words
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from every(each, *words, name)


COMMANDS = list(every(main))
Follow = Callable[[list[str]], tuple[str, ...]]


def helped(words: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(main, [*words, "--help"])
    assert shown.exit_code == 0
    return shown.output


def examples(shown: str) -> list[tuple[dict[str, str], list[str]]]:
    """Variables and words of each example; its meaning stands behind two spaces."""
    block = shown.partition("  Examples:\n")[2].partition("\n\n")[0]
    found = []
    for line in block.splitlines():
        command, _, meaning = line.strip().partition("  ")
        assert meaning.strip(), line
        words = shlex.split(command)
        count = next(n for n, word in enumerate(words) if "=" not in word)
        found.append((dict(word.split("=", 1) for word in words[:count]), words[count:]))
    return found


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Follow:
    """`follow(words)` parses as `bank` does and does nothing; the names of the command."""
    reached: list[str] = []

    def note(_: click.Command, context: click.Context) -> None:
        reached.append(context.command_path)

    monkeypatch.setattr(click.Command, "invoke", note)

    def parse(words: list[str]) -> tuple[str, ...]:
        main.main(words, prog_name="bank", standalone_mode=False)
        return tuple(reached[-1].split()[1:])

    return parse


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_has_examples_of_itself_that_it_takes(
    words: tuple[str, ...], follow: Follow
) -> None:
    shown = examples(helped(words))
    own = 0
    for variables, example in shown:
        load(variables)
        assert example[0] == "bank"
        names = follow(example[1:])
        assert names[: len(words)] == words
        own += names == words
    assert own > 0


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_names_no_option_that_is_none(words: tuple[str, ...]) -> None:
    shown = helped(words)
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    prose, _, _ = shown.partition("\nOptions:\n")
    below = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    known = {o for each in below for p in each.params for o in [*p.opts, *p.secondary_opts]}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", prose)) <= known | {"--help"}


@pytest.mark.parametrize("words", ["worker --it w1", "demo --accounts many", "parked shwo", "up x"])
def test_an_example_that_is_wrong_would_be_found(words: str, follow: Follow) -> None:
    with pytest.raises(click.UsageError):
        follow(words.split())


# ------------------------------------------------------------------ completion

DRIVERS = {
    "bash": """
        eval "$(_BANK_COMPLETE=bash_source bank)"
        COMP_WORDS=({words}); COMP_CWORD={last}
        $(complete -p bank | sed 's/.*-F \\([^ ]*\\).*/\\1/') bank
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "fish": """
        _BANK_COMPLETE=fish_source bank | source
        complete --do-complete '{line}'
    """,
    # A completion of zsh works in its line editor alone, so what it hands over there is caught.
    "zsh": """
        compdef() {{ :; }}
        _describe() {{ print -rl -- ${{(P)3}}; }}
        compadd() {{ print -rl -- ${{(P)5}}; }}
        eval "$(_BANK_COMPLETE=zsh_source bank)"
        words=({words}); CURRENT={number}
        _bank_completion
    """,
}


def completed(shell: str, line: str) -> set[str]:
    """What a shell offers for the last word of a line."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    words = line.split(" ")
    script = DRIVERS[shell].format(
        line=line,
        words=" ".join(word or "''" for word in words),
        last=len(words) - 1,
        number=len(words),
    )
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [program, *quiet, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"},
    )
    assert not done.stderr, done.stderr
    return {re.split(r"[\t:]", each)[0] for each in done.stdout.splitlines() if each}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_a_command(shell: str) -> None:
    assert completed(shell, "bank re") == {"rebuild", "repartition", "replicas"}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["rebuild", "--pa"], {"--partition"}),
        (["up", "--without", "mo"], {"mongodb"}),
        (["parked", ""], {"show", "retry", "drop"}),
    ],
)
def test_options_values_and_subcommands_are_completed(
    shell: str, line: list[str], offered: set[str]
) -> None:
    """By what click answers the shell with."""
    complete = get_completion_class(shell)
    assert complete is not None
    found = complete(main, {}, "bank", "_BANK_COMPLETE").get_completions(line[:-1], line[-1])
    assert {each.value for each in found} == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_the_document_tells_how_a_shell_is_taught(shell: str) -> None:
    assert f"_BANK_COMPLETE={shell}_source bank" in DOCUMENT.read_text()
