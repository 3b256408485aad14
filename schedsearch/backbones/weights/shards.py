"""Weights that are cut into several files: the index, or all numbered neighbours."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from schedsearch.backbones.weights.weight_names import name_some
from schedsearch.exceptions import CheckpointError
from schedsearch.files.strict_json import load_json

_NUMBERED = re.compile(
    r"(?P<stem>.+[-_.])(?P<number>\d+)(?P<of>[-_.]of[-_.])(?P<total>\d+)(?P<suffix>\.\w+)"
)
_MAX_INDEX_BYTES = 50_000_000


def shards_of(path: Path) -> list[Path]:
    """All files that belong to one shard, by its name or an index beside it.

    Returns:
        The files; empty if the path is no shard.

    Raises:
        CheckpointError: If one of them is missing.
    """
    match = _NUMBERED.fullmatch(path.name)
    for index in sorted(path.parent.glob("*index*.json")):
        if path.name in (files := set(_weight_map(index).values())):
            return _existing([path.parent / name for name in sorted(files)], index)
    if match is None or int(match["total"]) < 2:
        return []
    digits, total = len(match["number"]), int(match["total"])
    names = [
        f"{match['stem']}{number:0{digits}}{match['of']}{match['total']}{match['suffix']}"
        for number in range(1, total + 1)
    ]
    return _existing([path.parent / name for name in names], path)


def shards_in_index(index: Path) -> list[Path]:
    """All files that an index names.

    Raises:
        CheckpointError: If it is no index, or one of them is missing.
    """
    names = set(_weight_map(index).values())
    if not names:
        raise CheckpointError(
            f"The checkpoint {index} is a JSON file without a weight_map. Name the file of "
            "weights, or save them again."
        )
    return _existing([index.parent / name for name in sorted(names)], index)


def read_shards(files: list[Path], read: Callable[[Path], object]) -> dict[str, object]:
    """Read shards into one state dict.

    Args:
        files: The files.
        read: Reads one of them.

    Raises:
        CheckpointError: If two hold the same tensor, or one holds something else.
    """
    state: dict[str, object] = {}
    for file in files:
        part = read(file)
        tensors = (
            {k: v for k, v in part.items() if isinstance(v, Tensor)}
            if isinstance(part, dict)
            else {}
        )
        if not tensors or not state.keys().isdisjoint(tensors):
            raise CheckpointError(
                f"{file} is one of {len(files)} shards, but holds "
                f"{'tensors of another shard' if tensors else 'no tensors'}. Copy all of them "
                "again."
            )
        state.update(tensors)
    return state


def _weight_map(index: Path) -> dict[str, str]:
    try:
        if not index.is_file() or index.stat().st_size > _MAX_INDEX_BYTES:
            return {}
        found = load_json(index.read_text(encoding="utf-8")).get("weight_map")
    except (OSError, ValueError, AttributeError):
        return {}
    if not isinstance(found, dict):
        return {}
    # NOTE: Only names in the same folder, since an index may come from anyone.
    outside = [n for n in found.values() if not isinstance(n, str) or Path(n).name != n]
    if outside:
        raise CheckpointError(
            f"The index {index} names {outside[0]!a}, which is not a file beside it. Name "
            "the weights themselves."
        )
    return found


def _existing(files: list[Path], source: Path) -> list[Path]:
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"{source} belongs to weights in {len(files)} shards, but {len(missing)} of them "
            f"are missing: {name_some(missing)}. Copy them beside it."
        )
    return files
