"""The page of promises and the table of the soak say the same."""

from __future__ import annotations

import re
from pathlib import Path

import promises
import pytest
from run_cases import ROOT

TESTS = ROOT / "tests"


def test_the_page_states_every_promise_and_no_other() -> None:
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| (.+?) \| .+ \| `tests.+` \|$", page, re.MULTILINE)
    assert stated == list(promises.PROMISES.values())


def test_every_promise_has_a_test_that_bears_its_name() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.rglob("*.py"))
    borne = set(re.findall(r'mark\.promise\("([\w-]+)"\)', source))
    formats = {"idx", "npy", "npz", "h5", "safetensors", "toml"}  # named in a table of formats
    assert borne | formats == set(promises.PROMISES)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.name)
def test_no_test_bears_a_promise_that_is_not_made(path: Path) -> None:
    borne = re.findall(r'mark\.promise\("([\w-]+)"\)', path.read_text(encoding="utf-8"))
    assert set(borne) <= set(promises.PROMISES)


def test_an_attempt_that_fails_shows_in_the_table() -> None:
    table = promises.rows([("kill", 5, True), ("kill", 3, False), ("log", 2, True)])
    found = {row["promise"]: (row["tried"], row["held"]) for row in table}
    assert found[promises.PROMISES["kill"]] == (9, 8)
    assert found[promises.PROMISES["log"]] == (2, 2)
    assert found[promises.PROMISES["power"]] == (0, 0)
