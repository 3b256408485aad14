"""Reads arrays from a NumPy archive without pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schedsearch.exceptions import ConfigError

_MAGIC = b"\x93NUMPY"


def is_single_array(path: Path) -> bool:
    """Whether a file begins as ``np.save`` begins one."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_arrays(
    path: Path, one_of: Sequence[str], optional: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """Read the arrays with the given keys from an npz file.

    Args:
        path: The archive.
        one_of: Keys of which at least one must exist.
        optional: Further keys.

    Raises:
        ConfigError: If the file is missing or damaged, has none of the keys, or holds objects.
    """
    if not path.is_file():
        raise ConfigError(f"data.path {path} is not a file.")
    if not zipfile.is_zipfile(path) and not is_single_array(path):
        raise ConfigError(
            f"data.path {path} is no NumPy archive (npz), or was cut off. Make it with np.savez, "
            "or copy it again."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"data.path {path} is a single array; save it with np.savez.")
            names = list(archive.files)
            arrays = {key: archive[key] for key in (*one_of, *optional) if key in names}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"data.path {path} cannot be read as npz ({error}). It may be cut off, or hold "
            "objects, which are refused because they could run code."
        ) from error
    if not any(key in arrays for key in one_of):
        first, *others = (repr(key) for key in one_of)
        raise ConfigError(
            f"data.path {path} needs the key {first} (or {', '.join(others)}), but has "
            f"{', '.join(names) or 'nothing'}."
        )
    return arrays
