"""The README as a script: its commands with the answers that it shows.

A ```sh block is a command; a ```json or ```text block right after it is its answer. In an answer
`…` stands for anything: a value, a part of a line, or (alone) any lines; a key `…` for any further
keys. `<NAME>` is bound to what stands there when it is first shown, and put into later commands.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.support.settings import Settings, environment
from tests.harness import eventually

ANY: Final = "…"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_NAME: Final = re.compile(r"<([A-Z]+)>")
_PROJECTED: Final = re.compile(r"localhost:(8030|9200)/|^bank (verify|status)", re.MULTILINE)
"""What follows a moment after a command: asked again until it shows what the page shows."""
_CHANGES: Final = re.compile(r"-X (PUT|DELETE)")


@dataclass(frozen=True)
class Step:
    """A command, and the answer that is shown, if one is; `kind` is json or text."""

    command: str
    kind: str = ""
    answer: str = ""


def steps(markdown: str) -> Iterator[Step]:
    """The commands in order, each with its answer."""
    blocks = list(_BLOCK.finditer(markdown))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "sh":
            continue
        answered = (
            following is not None
            and following[1] in ("json", "text")
            and not markdown[block.end() : following.start()].strip()
        )
        if answered and following is not None:
            yield Step(block[2].strip(), following[1], following[2].strip())
        else:
            yield Step(block[2].strip())


class Mismatch(Exception):
    """An answer is not the one that is shown; the message says where."""


@dataclass
class Names:
    """What `<NAME>` stands for so far."""

    bound: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """The text with every known name replaced."""
        return _NAME.sub(lambda match: self.bound.get(match[1], match[0]), text)

    def compare(self, step: Step, output: str) -> None:
        """Raise `Mismatch` unless the output is what the step shows; bind new names."""
        new: dict[str, str] = {}
        if step.kind == "json":
            try:
                given = json.loads(output)
            except ValueError as error:
                raise Mismatch(f"no JSON: {output!r}") from error
            self._json(json.loads(self.fill(step.answer)), given, "", new)
        elif not _text_pattern(self.fill(step.answer)).fullmatch(_squeezed(output)):
            raise Mismatch(f"{output!r} is not\n{step.answer}")
        self.bound.update(new)

    def _json(self, shown: Any, given: Any, where: str, new: dict[str, str]) -> None:
        if shown == ANY:
            return
        if isinstance(shown, str) and (name := _NAME.fullmatch(shown)):
            if not isinstance(given, str) or new.setdefault(name[1], given) != given:
                raise Mismatch(f"{where}: {given!r} for {shown}")
        elif isinstance(shown, dict) and isinstance(given, dict):
            self._object(shown, given, where, new)
        elif isinstance(shown, list) and isinstance(given, list) and len(shown) == len(given):
            for number, pair in enumerate(zip(shown, given, strict=True)):
                self._json(*pair, f"{where}[{number}]", new)
        elif shown != given:
            raise Mismatch(f"{where}: {given!r}, not {shown!r}")

    def _object(
        self, shown: dict[str, Any], given: dict[str, Any], where: str, new: dict[str, str]
    ) -> None:
        wanted = shown.keys() - {ANY}
        if missing := wanted - given.keys():
            raise Mismatch(f"{where}: without {sorted(missing)}: {given!r}")
        if ANY not in shown and (more := given.keys() - wanted):
            raise Mismatch(f"{where}: more than is shown: {sorted(more)}")
        for key in wanted:
            self._json(shown[key], given[key], f"{where}.{key}", new)


def _squeezed(text: str) -> str:
    """Lines with single spaces, without empty ones."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def _text_pattern(shown: str) -> re.Pattern[str]:
    pattern = ""
    for line in _squeezed(shown).splitlines():
        if line == ANY:
            pattern += "(?:.*\n)*?"
        else:
            words = [re.escape(part.strip(" ")) for part in line.split(ANY)]
            pattern += r" ?.* ?".join(words) + "\n"
    return re.compile(pattern)


@dataclass(frozen=True)
class Shell:
    """Runs a page's commands on an application with these settings. `environ` are the other
    variables, with a PATH that leads to `bank`."""

    settings: Settings
    environ: Mapping[str, str]

    async def follow(self, step: Step, names: Names) -> None:
        """Run a command; one that reads what follows later is asked again for a while."""
        command = self._placed(names.fill(step.command))

        async def agrees() -> bool:
            names.compare(step, await self._run(command))
            return True

        if _PROJECTED.search(step.command) and not _CHANGES.search(step.command):
            await eventually(agrees, seconds=60, message=step.command)
        else:
            await agrees()

    def _placed(self, command: str) -> str:
        """The command with the page's ports turned into those of the settings."""
        ports = {
            "8000": self.settings.accounts_port,
            "8030": self.settings.balances_port,
            "9200": self.settings.elasticsearch_url.rpartition(":")[2],
        }
        for shown, port in ports.items():
            command = command.replace(f"localhost:{shown}", f"localhost:{port}")
        return re.sub(r"^curl ", "curl --silent --show-error ", command)

    async def _run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", command),
            env={**environment(self.settings), **self.environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise Mismatch(f"{command}: exit code {process.returncode}, {errors.decode()}")
        return output.decode()
