"""Splits RGBA tiles into training and test images on a plain background.

    python -m trainers.pretraining.tiles --path rltiles --output tiles

The path is the folder ``rltiles`` of Dungeon Crawl Stone Soup, or an npz file of tiles. The
command writes ``train.npz`` and ``test.npz``, which ``data: {source: npz}`` reads. Tiles whose
names differ only in a number are variants of one drawing, so they stay together. Equal commands
give equal images.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schedsearch.data.npz import IMAGE_KEYS, LABEL_KEYS, checked_labels, read_arrays
from schedsearch.exceptions import ConfigError, ExitCode, SchedSearchError
from schedsearch.files.atomic import replacing

BACKGROUND = 128
"""Grey of the background, which is 0 in the range [-1, 1] of a network."""

TEST_SHARE = 0.2
"""Share of the tiles of each class that is held out."""

SEED = 0
"""Seed of the split."""

TRAIN, TEST = "train.npz", "test.npz"

CLASSES = ("dngn", "item", "mon", "player", "effect")
"""Folders of tiles, in the order of the labels that the bundled weights know."""

SIDE = 32
"""Tiles of another size are passed over."""

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def read_tiles(path: Path) -> tuple[Images, Labels, list[str]]:
    """Read RGBA tiles, (N, H, W, 4) uint8, their classes, (N,), and their names.

    Raises:
        ConfigError: If the file is missing or damaged, or holds no such tiles.
    """
    if path.is_dir():
        return read_folder(path)
    arrays = read_arrays(path, IMAGE_KEYS, (*LABEL_KEYS, "names"))
    images = next(arrays[key] for key in IMAGE_KEYS if key in arrays)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 4 or not len(images):
        raise ConfigError(
            f"{path}: tiles must be RGBA, uint8 (N, H, W, 4), but are {images.dtype} "
            f"{images.shape}."
        )
    found = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    if found is None:
        raise ConfigError(f"{path}: tiles need classes under the key 'y' or 'labels'.")
    labels = checked_labels(found, len(images), path)
    names = arrays.get("names", np.arange(len(images)).astype(str))
    return images.astype(np.uint8), labels, [str(name) for name in names]


def read_folder(folder: Path) -> tuple[Images, Labels, list[str]]:
    """Read the tiles below a folder; see :func:`read_tiles`. Repeated images count once.

    Raises:
        ConfigError: If a class has no tiles, or a file is damaged.
    """
    found: dict[bytes, tuple[Images, int, str]] = {}
    for label, name in enumerate(CLASSES):
        for path in sorted((folder / name).rglob("*.png")):
            try:
                with Image.open(path) as image:
                    tile = (
                        np.asarray(image.convert("RGBA")) if image.size == (SIDE, SIDE) else None
                    )
            except (OSError, ValueError) as error:
                raise ConfigError(f"Cannot read {path}: {error}.") from error
            if tile is not None:
                found.setdefault(tile.tobytes(), (tile, label, str(path.relative_to(folder))))
        if not any(known == label for _, known, _ in found.values()):
            raise ConfigError(
                f"{folder}: the folders {', '.join(CLASSES)} must hold PNG files of "
                f"{SIDE} x {SIDE} pixels, but {name} has none."
            )
    tiles, labels, names = zip(*found.values(), strict=True)
    return np.stack(tiles), np.array(labels, dtype=np.int64), list(names)


def on_background(tiles: Images, grey: int) -> Images:
    """Put RGBA tiles, (N, H, W, 4), on a grey background: (N, H, W, 3)."""
    alpha = tiles[..., 3:].astype(np.float64) / 255
    mixed = alpha * tiles[..., :3] + (1 - alpha) * grey
    rgb: Images = np.floor(mixed + 0.5).astype(np.uint8)
    return rgb


def drawing_of(name: str) -> str:
    """Return the name without its ending and the number of its variant."""
    stem = name.rpartition(".")[0] or name
    return re.sub(r"([_-]*(\d+|old|new))+$", "", stem) or stem


def held_out(labels: Labels, names: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose test tiles, (N,) bool.

    Of every class, whole drawings are taken at random, up to a share of its tiles.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    drawings = np.array([drawing_of(name) for name in names])
    for label in np.unique(labels):
        rows = labels == label
        wanted = round(share * int(rows.sum()))
        for drawing in rng.permutation(np.unique(drawings[rows])):
            members = rows & (drawings == drawing)
            if int((chosen & rows).sum()) + int(members.sum()) <= wanted:
                chosen |= members
    return chosen


def _write(path: Path, images: Images, labels: Labels) -> None:
    arrays: dict[str, Any] = {"images": images, "labels": labels}
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.pretraining.tiles", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--path", type=Path, required=True, help="folder or npz file of tiles")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--background", type=int, default=BACKGROUND, help="grey, 0 to 255")
    parser.add_argument("--test-share", type=float, default=TEST_SHARE)
    parser.add_argument("--seed", type=int, default=SEED)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Split the tiles, write both files, and return the exit code."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not 0 <= args.background <= 255:
        parser.error(f"--background must lie in 0..255, got {args.background}")
    if not 0 < args.test_share < 1:
        parser.error(f"--test-share must lie between 0 and 1, got {args.test_share:g}")
    try:
        tiles, labels, names = read_tiles(args.path)
        test = held_out(labels, names, args.test_share, args.seed)
        if not test.any():
            raise ConfigError(
                f"{args.path}: no class has drawings that fit into {args.test_share:g} of its "
                "tiles. Raise --test-share."
            )
    except SchedSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    images = on_background(tiles, args.background)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, rows in ((TRAIN, ~test), (TEST, test)):
        _write(args.output / name, images[rows], labels[rows])
        counts = " ".join(map(str, np.bincount(labels[rows])))
        print(f"{args.output / name}: {int(rows.sum())} images, by class {counts}")
    return int(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main())
