"""Tables in a JSON file: kept at once, not measured again, never mixed between machines."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.result_tables import ResultFile, Table

CPU = torch.device("cpu")


def open_file(path, command, fresh=()):
    return ResultFile.open(path, "Title", "Question?", device=CPU, command=command, fresh=fresh)


TABLE = Table(
    title="T",
    note="how",
    columns={"name": "", "ms": ".1f"},
    rows=[{"name": "a", "ms": 1.25}, {"name": "b", "ms": None}],
)


def never() -> Table:
    raise AssertionError("measured again")


def test_a_table_is_kept_at_once_and_not_measured_again(tmp_path):
    file = tmp_path / "results" / "out.json"
    first = open_file(file, "first")
    assert first.measure("t", lambda: TABLE)
    assert json.loads(file.read_text())["tables"]["t"]["rows"] == TABLE.rows
    second = open_file(file, "second")
    assert not second.measure("t", never)
    second.write()
    page = file.with_suffix(".md").read_text()
    assert page.startswith("# Title\n\nQuestion?\n")
    assert "| a | 1.2 |" in page
    assert "| b | - |" in page
    assert "first\nsecond" in page


def test_fresh_parts_are_measured_again_and_the_others_kept(tmp_path):
    file = tmp_path / "out.json"
    first = open_file(file, "first")
    first.measure("flops", lambda: TABLE)
    first.measure("time/a", lambda: TABLE)
    second = open_file(file, "second", fresh=["time"])
    assert second.measure("time/a", lambda: TABLE)
    assert not second.measure("flops", never)


def test_rows_of_another_machine_are_not_mixed_in(tmp_path):
    file = tmp_path / "out.json"
    open_file(file, "first").measure("t", lambda: TABLE)
    data = json.loads(file.read_text())
    data["machine"]["device"] = "another"
    file.write_text(json.dumps(data))
    with pytest.raises(SystemExit, match=r"measured on .*another.*--fresh"):
        open_file(file, "second")
    assert not open_file(file, "third", fresh=["t"]).tables
