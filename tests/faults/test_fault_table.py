"""The table of faults names tests that exist, and takes its results from pytest."""

import ast
from pathlib import Path

import pytest
from fault_table import TESTS, Results, cases, table


def names_in(path: Path) -> set[str]:
    """Test functions of a file, those of classes too."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)
            }
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("name", cases())
def test_every_test_of_a_case_exists(name: str) -> None:
    case = cases()[name]
    assert case["tests"] or case["note"]
    for test in case["tests"]:
        file, _, function = test.partition("::")
        assert function in names_in(TESTS / file), test


def test_all_38_cases_and_every_kind_of_bug_are_there() -> None:
    kinds = (
        "C01 C03 C06 C07 C09 C12 C13 D01 D03 D05 D07 D08 D10 S01 S03 S05 S07 A01 E01 E02 E06 H01 "
        "R01 T01 P01 P02 P03 P04 P05 P06 P07 P08 P09"
    )
    assert cases().keys() == {*map(str, range(1, 39)), *kinds.split()}


def test_the_worst_result_counts() -> None:
    results = Results()
    results.outcomes = {"a": {"passed"}, "b": {"passed", "failed"}, "c": {"skipped"}}
    results.outcomes["e"] = {"passed", "skipped"}
    found = [results.of(tests) for tests in (["a", "e"], "ab", "ac", "ad", "")]
    assert found == ["PASS", "FAILED", "SKIPPED", "MISSING", "MISSING"]
    case = {"fault": "f", "promised": "p", "tests": ["a", "b"], "note": "n"}
    assert "| x | f | p | a<br>b | FAILED (n) |" in table({"x": case}, results)
