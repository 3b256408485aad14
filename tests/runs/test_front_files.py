"""The front as JSON, YAML and CSV."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from driving import confirm_of, entry_of

from schedsearch.exceptions import StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.front_files import (
    front_as,
    write_front,
)

SEEDS = [
    replace(confirm_of(3, seed, 4.0 + seed / 10), audit_fid=9.0, near_copies=0.04 * seed)
    for seed in (1, 2)
]
ENTRIES = [
    replace(entry_of(3, 4.0, 10.0), confirmed=tuple(SEEDS)),
    entry_of(0, 2.0, 20.0, "full"),
]


def test_every_field_of_a_schedule() -> None:
    confirmed, full = json.loads(front_as("json", ENTRIES))
    interval = confirmed.pop("fid_ci95")
    assert interval == pytest.approx([4.15 - 12.706205 * 0.05, 4.15 + 12.706205 * 0.05])
    assert confirmed.pop("fid_held_out") == pytest.approx(4.15)
    assert confirmed == {
        "trial": 3,
        "name": None,
        "origin": None,
        "depths": [7] * 10,
        "fid": 4.0,
        "kid": 0.04,
        "num_samples": 64,
        "features": "digits CNN",
        "latency_ms": 10.0,
        "latency_half_width_ms": 0.1,
        "latency_source": "measured",
        "predicted_latency_ms": 10.0,
        "acceleration": 0.25,
        "fid_audit": 9.0,
        "sample_std": 0.5,
        "reference_std": 0.5,
        "nn_distance": 2.0,
        "near_copies": pytest.approx(0.06),  # of the held-out seeds
        "confirm_seeds": 2,
        "confirm_samples": 64,
    }
    nothing = {"fid_held_out": None, "fid_ci95": None, "fid_audit": None, "confirm_samples": None}
    assert (full["name"], full["confirm_seeds"]) == ("full", 0)
    assert nothing.items() <= full.items()


def test_json_is_json() -> None:
    record = ENTRIES[0].record
    evaluation = replace(ENTRIES[0].evaluation, fid=math.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        front_as("json", [replace(ENTRIES[0], record=replace(record, evaluation=evaluation))])


def test_all_formats_agree() -> None:
    rows = json.loads(front_as("json", ENTRIES))
    assert yaml.safe_load(front_as("yaml", ENTRIES)) == rows
    table = list(csv.DictReader(io.StringIO(front_as("csv", ENTRIES))))
    assert [row["depths"] for row in table] == ["7 7 7 7 7 7 7 7 7 7", " ".join(["10"] * 10)]
    assert [float(row["latency_ms"]) for row in table] == [10.0, 20.0]
    assert [row["name"] for row in table] == ["", "full"]
    assert table[0]["fid_ci95"] == "3.51469 4.78531"
    assert table[1]["fid_ci95"] == table[1]["fid_held_out"] == ""


def test_an_empty_front() -> None:
    assert json.loads(front_as("json", [])) == []
    assert front_as("csv", []) == ""
    assert yaml.safe_load(front_as("yaml", [])) == []


def test_files_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_front(ENTRIES[:1], folder)
    write_front(ENTRIES, folder)
    assert yaml.safe_load(folder.front_yaml.read_text()) == json.loads(front_as("json", ENTRIES))
    assert folder.front_csv.read_text() == front_as("csv", ENTRIES)
    with pytest.raises(StorageError, match="Free space"):
        write_front(ENTRIES, RunFolder(tmp_path / "gone"))
