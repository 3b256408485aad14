"""Readers of search space files that are wrong, and a schedule file beside them."""

from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings
from schedsearch.exceptions import ExitCode

SCHEDULE = """\
schema: schedsearch.schedule/1
name: mine
backbone: {family: dit, num_exit_blocks: 10}
depths: [10, 10, 9, 9, 8, 8, 7, 7, 6, 6]
"""


def mistakes(path: Path, *overrides: str) -> list[str]:
    """The messages of a file, its folder left out."""
    with pytest.raises(InvalidFileError) as caught:
        read_settings(path, overrides)
    assert caught.value.exit_code == ExitCode.CONFIG
    return [str(p).replace(f"{path.parent}/", "") for p in caught.value.problems]
