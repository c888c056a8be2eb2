"""Groups, pure: what can be grouped and summed, whose name it is, and the bank's own."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from pipeline.banking.balance import BALANCE, OWNERS
from pipeline.banking.events import CREATED, DEPOSITED, FROZEN
from pipeline.banking.flows import FLOWS, TURNOVER
from pipeline.banking.statement import STATEMENT
from pipeline.model.groups import Groups
from pipeline.model.projection import Projection, Unfoldable
from pipeline.model.projection_lookup import grouped
from pipeline.testing.projections import projected
from tests.bank import history

ACCOUNT = "01J00000000000000000000000"


def kept(*groups: Groups, name: str = "places") -> Projection:
    shape = {
        "at": {"type": "keyword"},
        "to": {"type": "text", "fields": {"word": {"type": "keyword", "ignore_above": 3}}},
        "scans": {"type": "integer"},
        "weight": {"type": "long"},
    }
    return Projection(name, lambda _, __: {}, shape, optional=["weight"], groups=groups)


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (Groups("Towns", "at"), "no name"),
        (Groups("towns", "to"), "to is no keyword"),
        (Groups("towns", "nowhere"), "nowhere is no keyword"),
        (Groups("towns", "at.word"), "at.word is no keyword"),
        (Groups("towns", "at", ["to"]), "to is no whole number"),
        (Groups("towns", "at", ["scans", "weight"]), "weight may be null"),
    ],
)
def test_what_can_t_be_grouped_is_told_where_it_is_declared(groups: Groups, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kept(groups)


def test_the_group_of_a_document() -> None:
    towns, words = Groups("towns", "at", ["scans"]), Groups("words", "to.word")
    mapping = kept(towns, words).mapping
    assert [towns.key(each, mapping) for each in ("Porto" * 99, "", None)] == [
        "Porto" * 99,
        "",
        None,
    ]
    # Elasticsearch counts in UTF-16 units.
    assert [words.key(each, mapping) for each in ("Faro", "Far", "😀a", "😀😀")] == [
        *(None, "Far", "😀a", None)
    ]


def test_a_name_is_that_of_the_first_and_rather_a_projection_s() -> None:
    towns, again, places = Groups("towns", "at"), Groups("towns", "to.word"), Groups("places", "at")
    first, second = kept(towns, places), kept(again, name="others")
    assert list(grouped([first, second])) == [(first, towns)]
    assert list(grouped([second, first])) == [(second, again)]


def test_the_bank_has_owners_without_another_document() -> None:
    assert list(grouped([BALANCE, STATEMENT])) == [(BALANCE, OWNERS)]
    assert list(grouped([BALANCE, FLOWS])) == [(BALANCE, OWNERS), (FLOWS, TURNOVER)]


def test_a_share_in_the_turnover_of_a_day() -> None:
    events = history(ACCOUNT, 1) + [
        {**event, "created_at": datetime(2026, 11, 30, 23, 59, 59), "version": version}
        for version, event in enumerate(history(ACCOUNT, 1), 2)
    ]
    events[1] |= {"kind": DEPOSITED, "body": {"money": 5}}
    events[0] |= {"created_at": datetime(2026, 11, 29)}
    frozen: Any = {**events[1], "version": 3, "kind": FROZEN, "body": {"reason": ""}, "schema": 2}
    frozen["created_at"] = "2026-12-01T00:30:00+01:00"
    projected(FLOWS, *events).shows(
        {"day_and_kind": f"2026-11-29:{CREATED}", "money": 1000},
        {"day_and_kind": f"2026-11-30:{DEPOSITED}", "money": 5},
    )
    document: Any = FLOWS.fold_all([*events, frozen])
    assert document
    assert (document["day_and_kind"], document["money"]) == (f"2026-11-30:{FROZEN}", 0)
    with pytest.raises(Unfoldable, match="event of unknown kind MoneyBurnt"):
        FLOWS.fold(None, {**events[0], "kind": "MoneyBurnt"})


def test_groups_change_nothing_of_what_is_stored() -> None:
    assert BALANCE.version == 4
    assert replace(OWNERS, name="other") != OWNERS
