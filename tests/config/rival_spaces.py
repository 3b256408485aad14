"""The tiny space with a section ``rivals``, and the mistakes in it."""

from typing import Any

import pytest
import yaml
from tiny_runs import tiny_space

from schedsearch.config import settings_from_text
from schedsearch.files.problems import InvalidFileError

DEEDIFF = {
    "kind": "uncertainty",
    "trainer": "trainers.deediff:DeeDiffTrainer",
    "targets": [0.75],
    "recipe": {"num_steps": 7},
    "extra": {"beta": 0.5},
}


def read(rivals: Any, **changes: Any) -> Any:
    return settings_from_text(yaml.safe_dump(tiny_space(rivals=rivals, **changes)))


def problems_of(rivals: Any, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFileError) as caught:
        read(rivals, **changes)
    return [(p.key, f"{p.reason}; {p.remedy}") for p in caught.value.problems]
