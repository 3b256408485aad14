"""Runs the tests of ``cases.yaml`` and prints a table of faults, promises and results.

``python tests/faults/fault_table.py [CASE ...]`` runs all cases, or those that are named.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).resolve().parents[1]


def cases() -> dict[str, dict[str, Any]]:
    """The cases by number or by the name of a kind of bug."""
    data: dict[str, dict[str, Any]] = yaml.safe_load(
        (TESTS / "faults" / "cases.yaml").read_text(encoding="utf-8")
    )
    return data


class Results:
    """Keeps how every test ended, by its name without parameters."""

    def __init__(self) -> None:
        self.outcomes: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report of pytest; a test passed when its call did."""
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.partition("[")[0].removeprefix("tests/")
            self.outcomes.setdefault(name, set()).add(report.outcome)

    def of(self, tests: Iterable[str]) -> str:
        """The result of a case: of all its tests, the worst."""
        found = [self._of_one(test) for test in tests] or ["missing"]
        for outcome in ("failed", "missing", "skipped"):
            if outcome in found:
                return outcome.upper()
        return "PASS"

    def _of_one(self, test: str) -> str:
        """The worst outcome of a test's parameters; some of them may be skipped."""
        outcomes = self.outcomes.get(test, {"missing"})
        return "failed" if "failed" in outcomes else min(outcomes)  # passed before skipped


def run(tests: Iterable[str]) -> Results:
    """Run tests, slow ones too."""
    results = Results()
    names = [str(TESTS / test) for test in dict.fromkeys(tests)]
    options = [
        "-q",
        "-rs",
        "-m",
        "slow or not slow",
        "-p",
        "no:cacheprovider",
        f"--rootdir={TESTS.parent}",
    ]
    pytest.main([*options, *names], plugins=[results])
    return results


def table(chosen: dict[str, dict[str, Any]], results: Results) -> str:
    """The table in Markdown."""
    lines = ["| case | fault | promised | tests | result |", "|---|---|---|---|---|"]
    for name, case in chosen.items():
        tests = "<br>".join(case["tests"]) or "none"
        result = results.of(case["tests"])
        if note := case.get("note"):
            result += f" ({note})"
        lines.append(f"| {name} | {case['fault']} | {case['promised']} | {tests} | {result} |")
    counted = [results.of(case["tests"]) for case in chosen.values()]
    sums = ", ".join(f"{counted.count(kind)} {kind}" for kind in sorted(set(counted)))
    return "\n".join([*lines, "", f"{len(chosen)} cases: {sums}"])


if __name__ == "__main__":
    every = cases()
    wanted = {name: every[name] for name in sys.argv[1:] or every}
    outcome = run(test for case in wanted.values() for test in case["tests"])
    print(table(wanted, outcome))
    bad = {"FAILED", "MISSING"}  # a skipped test says what this machine lacks
    sys.exit(any(outcome.of(case["tests"]) in bad for case in wanted.values()))
