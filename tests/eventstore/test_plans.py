"""Reading what `explain` answers, in the forms that MongoDB 6 to 8 give it."""

from typing import Any

import pytest

from tests.plans import explainable, indexed, sorts, stages

BY_VERSION: dict[str, Any] = {
    "stage": "FETCH",
    "inputStage": {
        "stage": "IXSCAN",
        "keyPattern": {"slot": 1, "account_id": 1, "version": 1},
        "indexName": "account_version",
        "isMultiKey": False,
        "isUnique": True,
        "direction": "forward",
        "indexBounds": {"slot": ["[3, 3]"], "account_id": ['["A", "A"]'], "version": ["(1, 9]"]},
    },
}
SCAN: dict[str, Any] = {"stage": "COLLSCAN", "filter": {"n": {"$eq": 1}}, "direction": "forward"}
SORTED: dict[str, Any] = {
    "stage": "SORT",
    "sortPattern": {"version": 1},
    "memLimit": 104857600,
    "type": "simple",
    "inputStage": BY_VERSION,
}


def answer(plan: dict[str, Any], *rejected: dict[str, Any]) -> dict[str, Any]:
    """Of a find, by the classic engine."""
    planner = {
        "namespace": "bank.events",
        "parsedQuery": {"slot": {"$eq": 3}},
        "indexFilterSet": False,
        "winningPlan": plan,
        "rejectedPlans": [*rejected],
    }
    return {"explainVersion": "1", "queryPlanner": planner, "command": {"find": "events"}, "ok": 1}


EXPRESS = answer(
    {
        "isCached": False,
        "stage": "EXPRESS_IXSCAN",
        "keyPattern": "{ _id: 1 }",
        "indexName": "_id_",
    }
)
SLOTS = answer(
    {
        "queryPlan": {**BY_VERSION, "planNodeId": 2},
        "slotBasedPlan": {"slots": "$$RESULT=s11", "stages": "[2] nlj inner [] [s4, s5, s6]"},
    }
)
"""Of the slot-based engine, which puts the plan one level deeper."""
PIPELINE = {
    "explainVersion": "1",
    "stages": [
        {"$cursor": {"queryPlanner": answer(BY_VERSION)["queryPlanner"]}},
        {"$group": {"_id": {"$const": 1}, "n": {"$sum": {"$const": 1}}}},
    ],
}
SHARDED = {
    "queryPlanner": {
        "winningPlan": {
            "stage": "SHARD_MERGE",
            "shards": [
                {"shardName": "a", "winningPlan": BY_VERSION, "rejectedPlans": []},
                {"shardName": "b", "winningPlan": SCAN, "rejectedPlans": []},
            ],
        }
    }
}


@pytest.mark.parametrize(
    "told",
    [
        answer(BY_VERSION),
        answer(BY_VERSION, SCAN),
        EXPRESS,
        SLOTS,
        PIPELINE,
        answer({"stage": "IDHACK"}),
        answer({"stage": "COUNT", "inputStage": {"stage": "COUNT_SCAN"}}),
        answer({"stage": "COUNT", "inputStage": {"stage": "RECORD_STORE_FAST_COUNT"}}),
        answer({"stage": "OR", "inputStages": [BY_VERSION, BY_VERSION]}),
    ],
)
def test_an_index_serves_it(told: dict[str, Any]) -> None:
    assert indexed([*stages(told)])
    assert not sorts([*stages(told)])


@pytest.mark.parametrize(
    "told",
    [
        answer(SCAN),
        answer(SCAN, BY_VERSION),
        answer({"queryPlan": SCAN}),
        answer({"stage": "OR", "inputStages": [BY_VERSION, SCAN]}),
        SHARDED,
        {"ok": 1},
    ],
)
def test_none_does(told: dict[str, Any]) -> None:
    assert not indexed([*stages(told)])


def test_it_is_sorted_in_memory() -> None:
    names = [*stages(answer(SORTED))]
    assert names == ["SORT", "FETCH", "IXSCAN"]
    assert sorts(names)


def test_what_can_be_explained() -> None:
    find = {"find": "events", "filter": {"slot": 3}, "lsid": {}, "$db": "bank", "limit": 1}
    assert explainable(find) == {"find": "events", "filter": {"slot": 3}, "limit": 1}
    update = {"update": "snapshots", "updates": [{"q": {"_id": "A"}, "u": {}, "upsert": True}]}
    assert explainable(update) == {"find": "snapshots", "filter": {"_id": "A"}}
    assert explainable({"aggregate": "events", "pipeline": [{"$changeStream": {}}]}) is None
    assert explainable({"insert": "events", "documents": []}) is None
