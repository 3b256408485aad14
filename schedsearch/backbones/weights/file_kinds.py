"""How to read a weights file, by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from schedsearch.exceptions import CheckpointError
from schedsearch.files.content import kind_of

Layout = Literal["safetensors", "torch", "index"]

_MAX_HEADER = 100_000_000
"""Largest header of a safetensors file, by its own rules."""


def layout_of_file(path: Path) -> Layout:
    """Tell how to read a weights file, by its content rather than its name.

    Returns:
        ``index`` is the list of a sharded model's files.

    Raises:
        CheckpointError: If it holds no weights; the message says what it is.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return "safetensors"
    if path.suffix.lower() == ".json" and head.lstrip().startswith(b"{"):
        return "index"
    if (found := kind_of(path)) is not None:
        kind, remedy = found
        raise CheckpointError(
            f"The checkpoint {path} is {kind}, which holds no weights. {remedy}."
        )
    if head.startswith(b"\x80"):  # a pickle, as torch wrote it before 1.6
        return "torch"
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"The checkpoint {path} is neither safetensors nor a file of torch: it begins with "
            f"{head!r}. It may be cut off: compare its size with the source. Else save a state "
            "dict with torch, best as safetensors."
        )
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith("data.pkl") for name in archive.namelist()):
            raise CheckpointError(
                f"The checkpoint {path} is a NumPy archive. Save the arrays as a state dict, best "
                "with safetensors.numpy.save_file."
            )
    return "torch"
