"""The names of applications: none of one is another's."""

import pytest

from pipeline.application import Application, UnknownApplication, application
from pipeline.banking.application import BANK as THE_BANK
from pipeline.banking.balance import BALANCE
from pipeline.model.names import BANK, InvalidName, Names, names_of
from pipeline.model.projection import Projection
from pipeline.model.projection_lookup import UnknownProjection, projections
from pipeline.support.settings import SettingsError, load
from tests.apps.post import POST


def every(names: Names, projections: tuple[str, ...]) -> list[str]:
    """Each name of an application with these projections."""
    of_each = [
        name
        for each in projections
        for what in ("partitions", "parked", "rebuild")
        for name in (
            f"KV_{names.bucket(names.of(what, each))}",
            names.lease(names.of(what, each)),
            names.written(each),
            f"index {names.alias(each)}",
            f"index {names.alias(each)}-1",
        )
    ]
    return [
        names.log,
        names.subject(0),
        names.token_subject,
        names.partitions_subject,
        names.audit,
        names.happenings,
        names.changelog("activity"),
        *(
            f"KV_{names.bucket(what)}"
            for what in (names.requests, "keys", "key-uses", "subscriptions")
        ),
        names.news("leases"),
        names.instances,
        names.ended_instances,
        names.lease("forwarder"),
        names.worker_key("began"),
        f"index {names.checkpoints}",
        f"index {names.checkpoints_alias}",
        f"database {names.database}",
        names.metric("bank_ready"),
        *dict.fromkeys(of_each),
    ]


def test_no_name_of_one_is_another_s() -> None:
    found = [
        *every(BANK, ("balance", "statement", "places")),
        *every(names_of("post"), ("places", "balance")),
        *every(names_of("post_2"), ("places", "balance")),
        *every(names_of("places"), ("balance", "post")),
    ]
    assert len(set(found)) == len(found)


def test_the_bank_s_are_those_that_it_had() -> None:
    assert every(BANK, ("balance", "statement")) == [
        "balance",
        "balance.0",
        "balance.token",
        "balance.partitions",
        "audit",
        "happenings",
        "bank-activity-changelog",
        "KV_bank",
        "KV_keys",
        "KV_key-uses",
        "KV_subscriptions",
        "bank.news.leases",
        "bank.instances",
        "bank.instances.ended",
        "bank:lease:forwarder",
        "bank:{partitions}:began",
        "index bank-checkpoints",
        "index bank-checkpoints-live",
        "database bank",
        "bank_ready",
        "KV_partitions",
        "bank:lease:partitions",
        "bank.written.balance",
        "index balance",
        "index balance-1",
        "KV_parked",
        "bank:lease:parked",
        "KV_rebuild",
        "bank:lease:rebuild",
        "KV_partitions-statement",
        "bank:lease:partitions-statement",
        "bank.written.statement",
        "index statement",
        "index statement-1",
        "KV_parked-statement",
        "bank:lease:parked-statement",
        "KV_rebuild-statement",
        "bank:lease:rebuild-statement",
    ]


@pytest.mark.parametrize(
    "name", ["", "Post", "2post", "a-b", "a.b", "balance", "audit", "happenings", "admin", "x" * 32]
)
def test_what_can_be_no_application(name: str) -> None:
    with pytest.raises(InvalidName, match=repr(name)):
        Application(name)


def test_the_engine_s_numbers_are_no_application_s() -> None:
    one, other = POST.invariants[0], POST.invariants[0]._replace(number=99)
    with pytest.raises(
        ValueError, match="post: 99 is no number of its own invariants: those below 100"
    ):
        Application("post", invariants=[one, other])
    with pytest.raises(ValueError, match="post has two invariants of one number"):
        Application("post", invariants=[one, one])


def test_no_projection_is_named_like_the_index_of_checkpoints() -> None:
    named = Projection("checkpoints", lambda *_: {}, {})
    with pytest.raises(UnknownProjection, match="'checkpoints' can't be a projection"):
        projections("checkpoints", [named.within(names_of("post"))], names_of("post"))
    assert projections("checkpoints", [named]) == (named,), "the bank's index has another name"


def test_a_projection_is_the_application_s_that_keeps_it() -> None:
    ours = BALANCE.within(names_of("post"))
    assert (ours.alias, ours.named("parked")) == ("post-balance", "parked-balance")
    assert ours is BALANCE.within(names_of("post"))
    assert BALANCE.within(BANK) is BALANCE
    assert (BALANCE.alias, BALANCE.named("parked")) == ("balance", "parked")


def test_applications_are_found_by_name_or_place() -> None:
    assert application("bank") is THE_BANK
    assert application("tests.apps.post:POST").name == "post"
    for wrong, told in [
        ("bakery", "'bakery' is not bank; name your own as package.module:NAME"),
        ("tests.apps.post:NONE", "tests.apps.post:NONE: module"),
        ("tests.apps.nowhere:POST", "tests.apps.nowhere:POST: No module"),
        ("tests.apps.post:PLACES", "tests.apps.post:PLACES is no Application"),
    ]:
        with pytest.raises(UnknownApplication, match=told):
            application(wrong)
        with pytest.raises(SettingsError, match=f"BANK_APPLICATION: .*{told}"):
            load({"BANK_APPLICATION": wrong})
