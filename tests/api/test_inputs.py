"""Most bodies are decoded in one step: it must give what the strict decoder gives, or leave it."""

import json
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import api.accounts.bodies
from api.balances.subscriptions import PositionInput
from api.http import inputs
from api.http.problems import Problem

TEXTS = ["", "a", "id", "a:b", ":", '"', "\\", "{", "é", "\n"]
VALUES = [*TEXTS, 0, -1, 1, 2**53, 2**63, 2**64, -(2**64), 10**30, 1.5, 1.0, True, None]


BODIES: list[type[inputs.Input]] = [
    *(
        each
        for each in vars(api.accounts.bodies).values()
        if isinstance(each, type) and issubclass(each, inputs.Input) and each is not inputs.Input
    ),
    PositionInput,
]


def bodies(chance: random.Random) -> Iterator[str]:
    """Objects with some keys twice, and some values within values."""

    def value(depth: int) -> str:
        if depth and chance.random() < 0.3:
            return chance.choice((members, elements))(depth - 1)
        return json.dumps(chance.choice(VALUES), ensure_ascii=chance.random() < 0.5)

    def members(depth: int) -> str:
        pairs = (
            f"{json.dumps(chance.choice(TEXTS))}: {value(depth)}"
            for _ in range(chance.choice((0, 1, 2, 3, 40)))
        )
        return "{" + ", ".join(pairs) + "}"

    def elements(depth: int) -> str:
        return "[" + ",".join(value(depth) for _ in range(chance.randint(0, 3))) + "]"

    while True:
        yield members(2)


def strictly(text: str) -> Any:
    """What the decoder makes of it alone, or the class of its error."""
    try:
        return inputs._DECODER.decode(text)
    except ValueError as error:
        return type(error)


def test_in_one_step_or_two_it_is_the_same() -> None:
    exact = 0
    for _, text in zip(range(20_000), bodies(random.Random(1)), strict=False):
        value, expected = orjson.loads(text), strictly(text)
        if inputs._is_exact(value, text.encode()):
            exact += 1
            assert (value, list(map(type, value.values()))) == (
                expected,
                list(map(type, expected.values())),
            ), text
    assert exact > 1000


@pytest.mark.parametrize("text", ['{"id": "x", "money": 1}', '{"owner":"Ada","money":100}', "{}"])
def test_a_plain_body_is_decoded_in_one_step(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_DECODER", None)
    assert inputs._parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_null_is_no_way_to_leave_a_field_out(model: type[inputs.Input]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    with pytest.raises(Problem) as refused:
        inputs.validated(dict.fromkeys(names), model)
    told = {each["pointer"] for each in refused.value.members["errors"]}
    assert told == {f"#/{name}" for name in names}
    schema = json.dumps(model.model_json_schema())
    assert "null" not in schema
