"""Lines that are valid JSON, carry a checksum, and cannot be."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import confirm_of, evaluation_of, record_of, settings_of
from made_up_methods import rival_of

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.journals import (
    confirmation_journal,
    method_journal,
    trial_journal,
)
from schedsearch.runs.folder import RunFolder

SETTINGS = settings_of()
GOOD = [record_of(n, (10 - n,) * 10) for n in range(3)]
SEEDS = [confirm_of(n, seed, 4.0) for n in range(2) for seed in (1, 2)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (record_of(2, (9,) * 10), "trial 2 stands there twice"),
        (record_of(-1, (9,) * 10), "number must be at least 0"),
        (record_of(10**9, (9,) * 10), "trial number 1000000000 is far beyond the lines"),
        (record_of(3, (99,) * 10), "outside"),
        (record_of(3, (9,) * 3), "has 3 intervals"),
        (record_of(3, tuple(range(1, 11))), "not in the space"),
        (record_of(3, (9,) * 10, fid=-0.001), "fid must be at least 0"),
        (record_of(3, (9,) * 10, latency_ms=-1.0), "latency_ms must be at least 1e-09"),
        (record_of(3, (9,) * 10, latency_ms=5e-324), "latency_ms must be at least 1e-09"),
        (record_of(3, (9,) * 10, fid=1e308), r"fid must be at most 1e\+18"),
        (record_of(3, (9,) * 10, label="full\nDone."), "label must be one short line"),
        (record_of(3, (9,) * 10, label="x" * 10_000), "label must be one short line"),
        (
            record_of(3, (9,) * 10, evaluation=evaluation_of(0.5, 9.0, protocol="f" * 16)),
            "protocol is 'ffffffffffffffff', but the lines before have '0123456789abcdef'",
        ),
        (
            record_of(3, (9,) * 10, evaluation=evaluation_of(0.5, 9.0, num_samples=7)),
            "num_samples is 7, not 64",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_wrong_trial_is_named_by_its_line(tmp_path: Path, wrong: Any, reason: str) -> None:
    journal = trial_journal(RunFolder(tmp_path), SETTINGS)
    for record in GOOD:
        journal.append(record)
    assert journal.read() == GOOD
    journal.append(wrong)
    with pytest.raises(StorageError, match=reason) as caught:
        journal.read()
    assert "results.jsonl:4: " in str(caught.value)
    assert "schedsearch recover" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite(tmp_path: Path, value: float) -> None:
    journal = trial_journal(RunFolder(tmp_path), SETTINGS)
    journal.append(record_of(0, (9,) * 10, fid=value))
    with pytest.raises(StorageError, match="is no finite number"):
        journal.read()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (SEEDS[1], "trial 0 has seed 2 twice"),
        (confirm_of(0, 3, -1.0), "fid must be at least 0"),
        (replace(confirm_of(0, 3, 1.0), num_samples=7), "num_samples is 7, not 64"),
        (replace(confirm_of(0, 3, 1.0), features="LeNet"), "features is 'LeNet'"),
    ],
)
def test_a_wrong_confirmation(tmp_path: Path, wrong: Any, reason: str) -> None:
    journal = confirmation_journal(RunFolder(tmp_path), SETTINGS)
    for record in SEEDS:
        journal.append(record)
    assert journal.read() == SEEDS
    journal.append(wrong)
    with pytest.raises(StorageError, match=reason):
        journal.read()


def test_a_wrong_row(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    journal = method_journal(folder, folder.rivals_file, SETTINGS)
    good = replace(rival_of("a", [1.0, 2.0]), num_samples=64)
    journal.append(good)
    assert journal.read() == [good]
    journal.append(replace(good, name="b", protocol="another"))
    with pytest.raises(StorageError, match=r"rivals\.jsonl:2: .*protocol is 'another'"):
        journal.read()


def test_a_lost_end_is_found_and_accepted_by_the_next_driver(tmp_path: Path) -> None:
    journal = trial_journal(RunFolder(tmp_path), SETTINGS)
    for record in GOOD:
        journal.append(record)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    for left in (b"".join(lines[:2]), b"".join(lines[:2]) + lines[2][:30], b""):
        journal.path.write_bytes(left)
        kept = left.count(b"\n")
        with pytest.raises(StorageError, match=f"held 3 lines, but has {kept}: lines are lost"):
            journal.read()
    journal.path.write_bytes(lines[0] + lines[1][:30])
    journal.repair()
    assert journal.read() == GOOD[:1]


def test_damaged_lines_are_set_aside(tmp_path: Path) -> None:
    journal = trial_journal(RunFolder(tmp_path), SETTINGS)
    for record in GOOD:
        journal.append(record)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    damaged = lines[1].replace(b"0.05", b"0.04")
    assert damaged != lines[1]
    journal.path.write_bytes(lines[0] + damaged + lines[2])
    aside = tmp_path / "aside"
    assert journal.set_aside(aside) == [2]
    assert aside.read_bytes() == damaged
    journal.repair()
    assert journal.read() == [GOOD[0], GOOD[2]]
    assert journal.set_aside(aside) == []
