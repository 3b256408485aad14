"""The table of convergence orders is what its page shows."""

import re
from pathlib import Path

import pytest

from benchmarks import flow_orders

PAGE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "flow_orders.md"


def test_the_page_shows_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_orders, "CALLS", (10, 20, 40, 80))
    monkeypatch.setattr(flow_orders, "STOCHASTIC", flow_orders.STOCHASTIC[:1])
    assert flow_orders.main([]) == 0
    page = PAGE.read_text(encoding="utf-8")
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in printed if line.startswith(("| flow", "| dpm", "| sit"))]
    assert len(rows) == 8
    for row in rows:
        name, *errors = [cell.strip() for cell in row.strip("|").split("|")]
        shown = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", page, flags=re.MULTILINE)
        assert shown is not None
        assert [cell.strip() for cell in shown[1].split("|")][:4] == errors[:4]
