"""Colour tiles: the held-out split, the background, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from schedsearch.data.npz import load_npz
from trainers.pretraining.tiles import drawing_of, held_out, main, on_background


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
