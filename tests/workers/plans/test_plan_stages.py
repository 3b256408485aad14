"""Files of the stages of a calibration."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import to_document
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.plans.stage_files import StageFiles
from schedsearch.workers.plans.table import Numbers


def never() -> Any:
    raise AssertionError("the stage is there already")


@pytest.fixture
def files(tmp_path: Path) -> StageFiles:
    """Files of a calibration that began."""
    (tmp_path / "plans").mkdir()
    return StageFiles(RunFolder(tmp_path), tmp_path / "plans", "digest")


def test_a_stage_is_made_once(files: StageFiles) -> None:
    assert files.content("weights.json", lambda: [1.0]) == [1.0]
    assert files.content("weights.json", never) == [1.0]
    numbers = files.numbers("fits.safetensors", lambda: Numbers({"a": torch.ones(3)}))
    assert numbers.tensors["a"].tolist() == [1.0] * 3
    assert files.numbers("fits.safetensors", never).tensors["a"].tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "content",
    ["{", "[]", to_document({"a": 1}), to_document({"seconds": "soon"}), '{"seconds": 2.0}'],
)
def test_a_damaged_stage_is_refused_with_its_file(files: StageFiles, content: str) -> None:
    (files.path / "weights.json").write_text(content)
    with pytest.raises(StorageError, match=r"weights\.json.*Delete its folder"):
        files.content("weights.json", never)


def test_other_numbers_are_refused_with_their_file(files: StageFiles) -> None:
    for name, value in (("fits.safetensors", 1.0), ("maps.safetensors", 2.0)):
        files.numbers(name, lambda value=value: Numbers({"a": torch.full((3,), value)}))
    shutil.copy(files.path / "maps.safetensors", files.path / "fits.safetensors")
    with pytest.raises(StorageError, match=r"fits\.safetensors does not match.*Delete its folder"):
        files.numbers("fits.safetensors", never)
