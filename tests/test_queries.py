"""`docs/queries.md` names each query that is measured, and each scan, as what it is."""

import re
from pathlib import Path
from typing import Final

from tests import test_growth, test_growth_index

PAGE: Final = Path(__file__).parents[1] / "docs" / "queries.md"
ROW: Final = re.compile(
    r"^\| `([\w.]+)` \| [^|]+ \| (look-up|range|scan) \| (.+) \|$", re.MULTILINE
)


def test_each_query_is_in_the_table_as_what_it_is() -> None:
    rows = {name: (kind, why) for name, kind, why in ROW.findall(PAGE.read_text())}
    scans = test_growth.SCANS | test_growth_index.SCANS
    stand_in = test_growth.STAND_IN | test_growth_index.STAND_IN
    assert rows.keys() == test_growth.EVENTS.keys() | test_growth_index.READS.keys() | scans
    assert {name for name, (kind, _) in rows.items() if kind == "scan"} == scans
    said = "scan on the embedded server"
    assert {name for name, (_, why) in rows.items() if said in why} == stand_in
