"""Files of the stages of a calibration."""

from pathlib import Path

import pytest

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import to_document
from schedsearch.workers.plans.stage_files import _read


def test_a_stage_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(to_document({"content": [1.0], "seconds": 2.0}))
    assert _read(path) == {"content": [1.0], "seconds": 2.0}


@pytest.mark.parametrize(
    "content",
    ["{", "[]", to_document({"a": 1}), to_document({"seconds": "soon"}), '{"seconds": 2.0}'],
)
def test_a_damaged_stage_is_refused_with_its_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"weights\.json.*Delete its folder"):
        _read(path)
