"""Why a worker waits for an index is for everybody: it quotes no document."""

import pytest

from pipeline.search.client import _sort
from pipeline.search.values import WriteOutcome

ACCOUNT = "01JD0000000000000000000000"
QUOTED = {
    f"[1:44] failed to parse field [balance] of type [long] in document with id '{ACCOUNT}'. "
    "Preview of field's value: 'Ann'": "[1:44] failed to parse field [balance] of type [long]",
    "[balance-1][0] primary shard is not active Timeout: [1m], request: [BulkShardRequest "
    f'[[balance-1][0]] containing [index {{[balance-1][{ACCOUNT}], source[{{"owner":"Ann"}}]}}]]': (
        "[balance-1][0] primary shard is not active Timeout: [1m]"
    ),
    "index [balance-1] blocked by: [FORBIDDEN/8/index write (api)];": (
        "index [balance-1] blocked by: [FORBIDDEN/8/index write (api)];"
    ),
}


@pytest.mark.parametrize("status", [400, 403, 429, 503])
@pytest.mark.parametrize("reason", QUOTED)
def test_a_cause_quotes_no_document(status: int, reason: str) -> None:
    answers = {0: {"status": status, "error": {"type": "x", "reason": reason}}}
    _, _, why = _sort("balance-1", answers, WriteOutcome([], {}))
    assert why == f"balance-1: {status} {QUOTED[reason]}"
