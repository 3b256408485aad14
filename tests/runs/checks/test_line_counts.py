"""How many lines the journals of a run hold."""

from pathlib import Path

import pytest

from schedsearch.runs.checks.line_counts import LineCounts


def test_counts_are_kept_by_name(tmp_path: Path) -> None:
    counts = LineCounts(tmp_path / "lines.json")
    assert counts.of("results.jsonl") == 0
    counts.note("results.jsonl", 3)
    counts.note("plans.jsonl", 1)
    again = LineCounts(tmp_path / "lines.json")
    assert (again.of("results.jsonl"), again.of("plans.jsonl")) == (3, 1)


@pytest.mark.parametrize("damage", [b"", b"\xff", b"{}", b'{"results.jsonl": 9}\n'])
def test_a_damaged_file_knows_nothing(tmp_path: Path, damage: bytes) -> None:
    counts = LineCounts(tmp_path / "lines.json")
    counts.note("results.jsonl", 3)
    (tmp_path / "lines.json").write_bytes(damage)
    assert counts.of("results.jsonl") == 0
    counts.note("results.jsonl", 4)
    assert counts.of("results.jsonl") == 4


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    LineCounts(tmp_path / "gone" / "lines.json").note("results.jsonl", 3)
