"""Which run a folder holds, and from which data."""

from dataclasses import replace
from pathlib import Path

import pytest

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.folder import RunFolder

OURS = RunIdentity(
    data="sha256:aa",
    num_images=10,
    reference="sha256:bb",
    num_reference_images=20,
    extractor="cc",
)


def test_it_survives_its_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert RunIdentity.read(folder) is None
    OURS.write(folder)
    assert RunIdentity.read(folder) == OURS
    assert replace(OURS, run_id="x").run_id != OURS.run_id


def test_other_data_is_refused_with_both_values() -> None:
    OURS.refuse_other_data(replace(OURS, run_id="another run"), "runs/x")
    now = replace(OURS, data="sha256:dd", num_images=11)
    with pytest.raises(ConfigError, match=r"data: sha256:aa -> sha256:dd; num_images: 10 -> 11"):
        OURS.refuse_other_data(now, "runs/x")


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"run_id": "x"}\n', b"\xff"])
def test_a_damaged_file_is_said(tmp_path: Path, damage: bytes) -> None:
    folder = RunFolder(tmp_path)
    folder.identity_file.write_bytes(damage)
    with pytest.raises(StorageError, match=r"run\.json"):
        RunIdentity.read(folder)
