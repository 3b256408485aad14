"""Colour tiles: the held-out split, the background, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schedsearch.data.npz import load_npz
from schedsearch.exceptions import ConfigError
from trainers.pretraining.tiles import (
    CLASSES,
    drawing_of,
    held_out,
    main,
    on_background,
    read_tiles,
)


def write_tiles(path: Path, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 4, 4, 4), dtype=np.uint8)
    names = [f"floor/grass_{chr(97 + i % 20)}_{i // 20}.png" for i in range(count)]
    np.savez(path, x=images, y=np.arange(count, dtype=np.uint8) // 20, names=np.array(names))
    return images


def test_a_tile_is_mixed_with_its_background() -> None:
    tile = np.zeros((1, 1, 3, 4), dtype=np.uint8)
    tile[..., 0] = 200
    tile[0, 0, :, 3] = (0, 255, 51)  # no, full, and a fifth of opacity
    mixed = on_background(tile, 100)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == [[100, 100, 100], [200, 0, 0], [120, 80, 80]]


def write_folder(root: Path, leave_out: str = "") -> None:
    """Two tiles per class, the second of them twice, and a file of another size."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        if name == leave_out:
            continue
        (root / name / "deep").mkdir(parents=True)
        for stem in ("a", "b"):
            tile = Image.fromarray(rng.integers(0, 256, (32, 32, 4), dtype=np.uint8))
            tile.save(root / name / f"{stem}.png")
        tile.save(root / name / "deep" / "copy.png")
        tile.resize((64, 64)).save(root / name / "large.png")


def test_a_folder_of_tiles(tmp_path: Path) -> None:
    write_folder(tmp_path)
    tiles, labels, names = read_tiles(tmp_path)
    assert tiles.shape == (10, 32, 32, 4)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert names[:3] == ["dngn/a.png", "dngn/b.png", "item/a.png"]
    with Image.open(tmp_path / "item" / "a.png") as image:
        assert (np.asarray(image) == tiles[2]).all()


def test_a_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, leave_out="mon")
    with pytest.raises(ConfigError, match="but mon has none"):
        read_tiles(tmp_path)


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "item" / "b.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"item/b\.png"):
        read_tiles(tmp_path)


@pytest.mark.parametrize(
    ("name", "drawing"),
    [
        ("dngn/altars/dithmenos2.png", "dngn/altars/dithmenos"),
        ("dngn/floor/cage_04_old.png", "dngn/floor/cage"),
        ("player/hand1/sword.png", "player/hand1/sword"),
        ("17", "17"),
    ],
)
def test_variants_are_one_drawing(name: str, drawing: str) -> None:
    assert drawing_of(name) == drawing


def test_whole_drawings_of_every_class_are_held_out() -> None:
    labels = np.repeat([0, 1, 2], [200, 100, 7])
    names = [f"a/{i // 3}x_{i}.png" for i in range(307)]
    test = held_out(labels, names, 0.2, seed=0)
    shares = [test[labels == label].mean() for label in range(3)]
    assert shares[:2] == pytest.approx([0.2, 0.2], abs=0.02)
    drawings = [drawing_of(name) for name in names]
    for label in range(3):
        rows = labels == label
        inside = {d for d, t, r in zip(drawings, test, rows, strict=True) if r and t}
        outside = {d for d, t, r in zip(drawings, test, rows, strict=True) if r and not t}
        assert not inside & outside
    assert np.array_equal(test, held_out(labels, names, 0.2, seed=0))
    assert not np.array_equal(test, held_out(labels, names, 0.2, seed=1))


def test_the_command_writes_what_a_space_reads(tmp_path: Path, capsys) -> None:
    images = write_tiles(tmp_path / "tiles.npz")
    arguments = ["--path", str(tmp_path / "tiles.npz"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    train = load_npz(tmp_path / "out" / "train.npz", (3, 4, 4))
    test = load_npz(tmp_path / "out" / "test.npz", (3, 4, 4))
    assert train.num_images + test.num_images == 60
    assert train.num_classes == test.num_classes == 3
    assert f"{test.num_images} images, by class 4 4 4" in capsys.readouterr().out
    every = {image.tobytes() for image in on_background(images, 128)}
    found = [image.permute(1, 2, 0).numpy().tobytes() for s in (train, test) for image in s.images]
    assert set(found) == every
    before = train.fingerprint
    assert main(arguments) == 0
    assert load_npz(tmp_path / "out" / "train.npz", (3, 4, 4)).fingerprint == before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 4, 4, 3), np.uint8), "y": np.zeros(2, int)}, "must be RGBA"),
        ({"x": np.zeros((2, 4, 4, 4), np.float32), "y": np.zeros(2, int)}, "must be RGBA"),
        ({"x": np.zeros((2, 4, 4, 4), np.uint8)}, "tiles need classes"),
        ({"x": np.zeros((2, 4, 4, 4), np.uint8), "y": np.zeros(2, int)}, "no class has drawings"),
        ({"z": np.zeros(2)}, "needs the key 'images'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, capsys, arrays, message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    code = main(["--path", str(tmp_path / "x.npz"), "--output", str(tmp_path / "out")])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [("--background", "256"), ("--test-share", "1")])
def test_numbers_out_of_range(tmp_path: Path, flags: tuple[str, str], capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--path", "x", "--output", str(tmp_path), *flags])
    assert "got" in capsys.readouterr().err
