"""The front as JSON, YAML and CSV."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from driving import entry_of

from schedsearch.exceptions import StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.front_files import (
    front_as_csv,
    front_as_json,
    front_as_yaml,
    write_front,
)

ENTRIES = [
    replace(entry_of(3, 4.0, 10.0), fid_confirmed=4.1, fid_ci95=(3.9, 4.3), confirm_seeds=5),
    entry_of(0, 2.0, 20.0, "full"),
]


def test_json_has_the_keys_of_the_contract() -> None:
    rows = json.loads(front_as_json(ENTRIES))
    assert isinstance(rows, list)
    keys = {"trial", "depths", "fid", "latency_ms", "acceleration", "num_samples", "features"}
    for row, entry in zip(rows, ENTRIES, strict=True):
        assert keys <= set(row)
        assert row["depths"] == list(entry.depths)
        assert isinstance(row["trial"], int)
        assert row["fid"] == entry.fid
    assert rows[0]["fid_ci95"] == [3.9, 4.3]
    assert rows[1]["fid_ci95"] is None


def test_json_is_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        front_as_json([replace(ENTRIES[0], fid=math.nan)])


def test_all_formats_agree() -> None:
    rows = json.loads(front_as_json(ENTRIES))
    assert yaml.safe_load(front_as_yaml(ENTRIES)) == rows
    table = list(csv.DictReader(io.StringIO(front_as_csv(ENTRIES))))
    assert [row["depths"] for row in table] == ["7 7 7 7 7 7 7 7 7 7", " ".join(["10"] * 10)]
    assert [float(row["latency_ms"]) for row in table] == [10.0, 20.0]
    assert [row["name"] for row in table] == ["", "full"]
    assert table[0]["fid_ci95"] == "3.9 4.3"


def test_an_empty_front() -> None:
    assert json.loads(front_as_json([])) == []
    assert front_as_csv([]) == ""
    assert yaml.safe_load(front_as_yaml([])) == []


def test_files_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_front(ENTRIES[:1], folder)
    write_front(ENTRIES, folder)
    assert yaml.safe_load(folder.front_yaml.read_text()) == json.loads(front_as_json(ENTRIES))
    assert folder.front_csv.read_text() == front_as_csv(ENTRIES)
    with pytest.raises(StorageError, match="Free space"):
        write_front(ENTRIES, RunFolder(tmp_path / "gone"))
