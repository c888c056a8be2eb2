"""The app that docs/bridge.md shows is the one that the tests run."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documented_app_is_the_tested_one() -> None:
    source = (ROOT / "tests/apps/greeter.py").read_text()
    code = source[source.index("import os") :].strip()
    assert f"```python\n{code}\n```" in (ROOT / "docs/bridge.md").read_text()
