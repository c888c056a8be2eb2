"""The permissions of `deploy/secure/make.sh` are those that the code needs, and docs/security.md
lists them. `tests/secure` runs a bank under them."""

import re
from itertools import chain

from pipeline.banking.balance import BALANCE
from pipeline.bridge import consumer
from pipeline.forwarder import stream_publisher
from pipeline.messaging.notifications import notifications_of
from pipeline.model.names import BANK, Names
from tests.deployed import ROOT

WRITTEN = f"{BANK.written('balance')}.8.0"
BOTH = {
    "news": BANK.news("parked-statement"),
    "written": WRITTEN,
    "instances": BANK.instances,
    "ended_instances": BANK.ended_instances,
}
STORED = {
    "subject": BANK.subject(0),
    "token_subject": BANK.token_subject,
    "partitions_subject": BANK.partitions_subject,
    "audit": f"{BANK.audit}.key-created",
    "happenings": f"{BANK.happenings}.server",
    "changelog": f"{BANK.changelog('activity')}.0.key",
}
SERVER = ["$JS.API.STREAM.INFO.x", "$JS.ACK.x.y.1", "$JS.FC.x.y.z", "$KV.keys.a"]
HEARD = ["_INBOX.a.b", f"{stream_publisher.NEW_LEADER}.balance", f"{consumer.NEW_LEADER}.x.y"]


def allowed(action: str) -> set[str]:
    text = (ROOT / "deploy/secure/make.sh").read_text()
    found = re.search(rf"{action}: \[(.*?)\]", text, re.DOTALL)
    assert found is not None
    return set(re.findall(r'"\\?([^"]+)"', found[1]))


def covered(subject: str, by: str) -> bool:
    """Whether a subject, also one with wildcards, is within those of the other."""
    pattern = re.escape(by).replace(r"\*", r"[^.]+").replace(">", ".+")
    return re.fullmatch(pattern, subject) is not None


def assert_exact(needed: list[str], rights: set[str]) -> None:
    assert [each for each in needed if not any(covered(each, by) for by in rights)] == []
    assert [by for by in rights if not any(covered(each, by) for each in needed)] == []


def test_they_are_what_the_code_needs_and_no_more() -> None:
    assert_exact([*BOTH.values(), *STORED.values(), *SERVER], allowed("publish"))
    listened = [*BOTH.values(), notifications_of(BALANCE), *HEARD]
    assert_exact(listened, allowed("subscribe"))


def test_each_subject_and_stream_that_has_a_name_is_among_them() -> None:
    named = {
        name
        for name, member in vars(Names).items()
        if re.match(r"The (subject|stream)\b", member.__doc__ or "")
    }
    assert named <= {*BOTH, *STORED}


def test_so_are_those_of_the_servers_in_the_source() -> None:
    sources = chain.from_iterable((ROOT / each).rglob("*.py") for each in ("pipeline", "api"))
    found = {
        name.replace("\\", "")
        for path in sources
        for name in re.findall(r"\\?\$(?:JS|KV|SYS|SRV|O)\b(?:\\?\.[A-Z]+)?", path.read_text())
    }
    assert found == {"$JS.ACK", "$JS.API", "$JS.EVENT", "$KV"}


def test_the_docs_list_them() -> None:
    text = (ROOT / "docs/security.md").read_text()
    listed = set(re.findall(r"`([^`\s]+)`", text.partition("### The least rights")[2]))
    assert (allowed("publish") | allowed("subscribe")) - listed == set()
