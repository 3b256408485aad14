"""Tensors cached on disk with their sources; damaged files are made again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import replacing

_CHECKSUM = "tensors_sha256"
_log = logging.getLogger(__name__)


def identity_digest(identity: Mapping[str, str]) -> str:
    """Digest of what tensors were made from, 16 hex digits."""
    return hashlib.sha256("\n".join(identity.values()).encode()).hexdigest()[:16]


def load_tensors(
    path: Path, names: Sequence[str], identity: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Read tensors and metadata; None where there is no file or it is damaged.

    A damaged file is logged, so that the caller makes it again.

    Args:
        path: The file.
        names: The tensors.
        identity: Metadata that the file must have.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
        if metadata.pop(_CHECKSUM) != _checksum(tensors, metadata):
            raise ValueError("its checksum does not match")
        if any(metadata[key] != value for key, value in identity.items()):
            raise ValueError("it belongs to other data")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        _log.warning("%s is damaged (%s); computing it again.", path, error)
        return None
    return tensors, metadata


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace the file at once; its folder is created if missing.

    Raises:
        StorageError: If it cannot be written.
    """
    own = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # NOTE: safetensors has no checksum.
    about = {**metadata, _CHECKSUM: _checksum(own, metadata)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(own, temporary, about)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"Cannot write the cache {path}: {error}.") from error


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
