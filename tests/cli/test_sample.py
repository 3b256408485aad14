"""``schedsearch sample``: what is written, and what is refused."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread
from tiny_runs import TINY, Done, run_cli, write_space

import schedsearch
from schedsearch.evaluation import sampling


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A space of the sections that ``sample`` reads, and a broken one that it does not."""
    path = tmp_path / "space.yaml"
    sections: dict[str, Any] = {key: TINY[key] for key in ("backbone", "solver")}
    path.write_text(yaml.safe_dump({**sections, "search": {"n_trials": "many"}}))
    return path


def sample(space: Path, *argv: object) -> tuple[Done, Any]:
    out = space.parent / "out.npz"
    done = run_cli("sample", space, *argv, "--out", out)
    return done, dict(np.load(out)) if out.exists() else None


def save(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def test_only_its_sections_are_read(space: Path) -> None:
    done, arrays = sample(space)
    assert done.code == 0, done.err
    assert set(arrays) == {"images"}
    assert arrays["images"].shape == (16, 8, 8, 1)
    net = schedsearch.load_backbone("digits_dit")
    images = schedsearch.sample(
        net, schedsearch.ExitSchedule.flat(10), solver="dpm_solver", num_steps=3, num=16
    )
    expected = ((images.clamp(-1, 1) + 1) * 127.5).numpy().transpose(0, 2, 3, 1)
    assert np.abs(arrays["images"] - expected).max() <= 1  # rounded
    assert arrays["images"].std() > 10
    assert done.out == ""
    assert "16 images, schedule [10 10" in done.err


def test_overrides(space: Path) -> None:
    done, _ = sample(space, "--num", 1, "-o", "solver.num_steps=4")
    assert done.code == 0, done.err
    assert "dpm_solver with 4 steps" in done.err
    done, _ = sample(space, "--num", 1, "-o", "slover.num_steps=4")
    assert done.code == 2
    assert "not in a section that is read here; did you mean 'solver'?" in done.err


def test_images_do_not_depend_on_their_number_and_do_on_the_seed(space: Path) -> None:
    _, few = sample(space, "--num", 3, "--raw")
    _, many = sample(space, "--num", 7, "--raw")
    _, other = sample(space, "--num", 3, "--raw", "--seed", 1)
    np.testing.assert_allclose(few["samples"], many["samples"][:3], atol=1e-5)
    assert not np.allclose(few["samples"], other["samples"])


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("D3-DiT", "10 10 9 9 7 7 6 6 4 4"),
        ("9,9,9,8,8,8,7,7,7,6", "9 9 9 8 8 8 7 7 7 6"),
        ("5", "5 5 5 5 5 5 5 5 5 5"),
        ("full", "10 10 10 10 10 10 10 10 10 10"),
    ],
)
def test_schedules(space: Path, spec: str, shown: str) -> None:
    done, _ = sample(space, "--schedule", spec, "--num", 2)
    assert done.code == 0
    assert f"schedule [{shown}]" in done.err


def test_a_u_vit_runs_no_decoder_block_at_depth_0(uvit_space: Path) -> None:
    done, shallow = sample(uvit_space, "--schedule", "2,2,1,0,0,0,0,0,0,0", "--num", 2, "--raw")
    assert done.code == 0, done.err
    assert "schedule [2 2 1 0 0 0 0 0 0 0]" in done.err
    _, deeper = sample(uvit_space, "--schedule", "2,2,1,1,1,1,1,1,1,1", "--num", 2, "--raw")
    assert not np.allclose(shallow["samples"], deeper["samples"])
    done, _ = sample(uvit_space, "--schedule", "4")
    assert done.code == 2
    assert "must be in [0, 3]" in done.err


def test_a_grid_and_silence(space: Path) -> None:
    grid = space.parent / "grid.png"
    done, arrays = sample(space, "-q", "--num", 4, "--grid", grid)
    assert (done.code, done.out, done.err) == (0, "", "")
    picture = 255 * imread(grid)[..., 0]  # 4 of 10 columns of digits, 8 times as large
    for column, image in enumerate(arrays["images"][..., 0]):
        corner = 2 + column * (8 * 8 + 2)
        shown = picture[2 : 2 + 64, corner : corner + 64].reshape(8, 8, 8, 8)
        np.testing.assert_allclose(shown.mean((1, 3)), image, atol=0.6)


def test_a_given_start(space: Path, tmp_path: Path) -> None:
    noise = torch.randn(4, 1, 8, 8).numpy()
    start = ("--noise", save(tmp_path / "n.npy", noise), "--raw")
    labels = save(tmp_path / "l.npy", np.array([3, 3, 3, 3]))
    _, first = sample(space, *start, "--labels", labels)
    _, again = sample(space, *start, "--labels", labels, "--seed", 9)
    np.testing.assert_array_equal(first["samples"], again["samples"])
    _, others = sample(space, *start)
    assert not np.array_equal(first["samples"], others["samples"])
    _, two = sample(space, *start, "--num", 2)
    assert len(two["samples"]) == 2
    done, _ = sample(space, *start, "--num", 5)
    assert done.code == 2
    assert "--num asks for 5 images" in done.err
    assert "has noise for 4" in done.err


@pytest.mark.parametrize(
    ("noise", "labels", "message"),
    [
        (np.zeros((4, 3, 8, 8)), None, r"must have the shape (N, 1, 8, 8)"),
        (np.zeros((0, 1, 8, 8)), None, r"must have the shape (N, 1, 8, 8)"),
        (np.zeros((4, 1, 8, 8)), np.zeros(3), "must hold 4 integers"),
        (np.zeros((4, 1, 8, 8)), np.array([0, 1, 2, 10]), "must lie in [0, 9]"),
        (np.zeros((4, 1, 8, 8)), np.array([0, 1, 2, -1]), "must lie in [0, 9]"),
        (np.array([{"a": 1}]), None, "Cannot read"),
    ],
)
def test_a_start_that_does_not_fit(
    space: Path, tmp_path: Path, noise: Any, labels: Any, message: str
) -> None:
    argv: list[object] = ["--noise", save(tmp_path / "n.npy", noise)]
    if labels is not None:
        argv += ["--labels", save(tmp_path / "l.npy", labels)]
    done, arrays = sample(space, *argv)
    assert done.code == 2
    assert message in done.err
    assert arrays is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--schedule", "D9-DiT"), "There is no schedule file or preset 'D9-DiT'"),
        (("--schedule", "11"), "must be in [1, 10]"),
        (("--schedule", "0"), "must be in [1, 10]"),
        (("--weights", "missing.safetensors"), "missing.safetensors"),
        (("--weights", "package:nothing.safetensors"), "No weights named 'nothing.safetensors'"),
    ],
)
def test_mistakes(space: Path, argv: tuple[str, ...], message: str) -> None:
    done, arrays = sample(space, *argv)
    assert done.code == 2
    assert message in done.err
    assert arrays is None


def test_weights_are_needed(tmp_path: Path) -> None:
    space = write_space(tmp_path, backbone={"checkpoint": None})
    done, _ = sample(space)
    assert done.code == 2
    assert "backbone.checkpoint is not set and --weights is missing" in done.err


@pytest.mark.parametrize("checkpoint", [None, "gone.safetensors"])
def test_weights_that_ship(tmp_path: Path, checkpoint: str | None) -> None:
    bare = write_space(tmp_path, backbone={"checkpoint": checkpoint})
    weights = ("--weights", "package:digits_dit.safetensors")
    done, arrays = sample(bare, *weights, "--num", 2, "--raw")
    assert done.code == 0, done.err
    space = write_space(tmp_path / "with_weights")
    _, expected = sample(space, "--num", 2, "--raw")
    np.testing.assert_array_equal(arrays["samples"], expected["samples"])


def test_a_pickle_is_not_run(space: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    (tmp_path / "w.pt").write_bytes(pickle.dumps({"model": Payload()}))
    done, _ = sample(space, "--weights", tmp_path / "w.pt")
    assert done.code == 2
    assert "could run code" in done.err
    assert not marker.exists()


@pytest.mark.parametrize("option", ["--out", "--grid"])
def test_an_output_that_cannot_be_written(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """It is found before the sampling, which may take long."""
    monkeypatch.setattr(sampling, "generate", None)
    targets = {"--out": tmp_path / "x.npz", option: tmp_path / "no" / "x"}
    words = [word for pair in targets.items() for word in pair]
    done = run_cli("sample", space, "--num", 1, *words)
    assert done.code == 2
    assert f"Cannot write {tmp_path / 'no' / 'x'}: there is no folder" in done.err


def test_other_weights_than_measured_are_said(complete_run: Path, space: Path) -> None:
    schedule = space.parent / "s.yaml"
    run_cli("export", complete_run, "--knee", "-o", schedule)
    done, _ = sample(space, "--schedule", schedule, "--num", 1)
    assert done.code == 0
    assert "was measured with other weights than these" in done.err


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([0.9, 2.7]), "whole numbers"),
        (np.array([np.nan, 1.0]), "whole numbers"),
        (np.array([True, False]), "whole numbers"),
        (np.array([1 + 0j, 0]), "whole numbers"),
        (np.array([[0], [1]]), "shape"),
        (np.array([0, 99]), r"[0, 9]"),
        (np.array([-1, 0]), r"[0, 9]"),
        (np.array([1]), "must hold 2 integers"),
        (np.array(["a", "b"]), "Cannot read"),
        (np.array([2**64 - 1, 0], dtype=np.uint64), "[0, 9]"),
    ],
)
def test_labels_are_whole_numbers_of_classes(space: Path, labels: Any, said: str) -> None:
    done, _ = sample(space, "--num", 2, "--labels", save(space.parent / "l.npy", labels))
    assert done.code == 2
    assert said in done.err


def test_whole_numbers_stored_as_floats_or_big_endian_pass(space: Path) -> None:
    for labels in (np.array([1.0, 3.0]), np.array([1, 3], dtype=">i4")):
        done, _ = sample(space, "--num", 2, "--labels", save(space.parent / "l.npy", labels))
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (np.full((2, 1, 8, 8), np.nan, np.float32), "2 of 2 images of noise"),
        (np.zeros((2, 1, 8, 8), np.int64), "real numbers"),
        (np.zeros((2, 1, 8, 8), np.complex64), "real numbers"),
        (np.zeros((0, 1, 8, 8), np.float32), "shape"),
        (np.zeros((1, 1, 8, 8), np.float32), "has noise for 1"),
    ],
)
def test_noise_is_real_finite_and_enough(space: Path, noise: Any, said: str) -> None:
    done, arrays = sample(space, "--num", 2, "--noise", save(space.parent / "n.npy", noise))
    assert done.code == 2
    assert said in done.err
    assert arrays is None


def test_odd_array_files(space: Path) -> None:
    (space.parent / "empty.npy").write_bytes(b"")
    np.savez(space.parent / "several.npz", a=np.ones(2))
    os.mkfifo(space.parent / "pipe.npy")  # opening it would block for ever
    for name in ("empty.npy", "several.npz", "nowhere.npy", ".", "pipe.npy", "/dev/zero"):
        for option in ("--noise", "--labels"):
            done, _ = sample(space, option, space.parent / name)
            assert done.code == 2, done.err
            assert option in done.err


def test_targets_are_checked_before_the_weights(space: Path) -> None:
    gone = ("--weights", "nowhere.pt")
    for option, said in {"--grid": "no folder", "--out": "no folder"}.items():
        done = run_cli("sample", space, *gone, "--out", space.parent / "a.npz", option, "no/x.png")
        assert done.code == 2
        assert said in done.err
    done = run_cli("sample", space, *gone, "--out", "/dev/null")
    assert "device or pipe" in done.err
    assert not (space.parent / "a.npz").exists()


def test_more_images_than_memory(space: Path) -> None:
    done, _ = sample(space, "--num", 10**15)
    assert done.code == 2
    assert f"--num {10**15} takes at least" in done.err


def test_weights_of_another_run_beside_a_schedule_file(run_copy: Path, space: Path) -> None:
    trial = run_copy / "trials" / "0001"
    assert sample(space, "--schedule", trial / "schedule.yaml")[0].code == 0
    (trial / "ema.safetensors").write_bytes((trial.parent / "0002/ema.safetensors").read_bytes())
    done, _ = sample(space, "--schedule", trial / "schedule.yaml")
    assert done.code == 2
    assert "ema.safetensors holds other weights than those that" in done.err


def test_weights_of_a_schedule_file_are_not_a_link(space: Path, tmp_path: Path) -> None:
    from schedsearch.schedules.schedule_file import (
        ScheduledBackbone,
        ScheduleFile,
        write_schedule_file,
    )

    inside = tmp_path / "given"
    inside.mkdir()
    backbone = ScheduledBackbone(family="dit", num_exit_blocks=10)
    for weights, target in (("w.safetensors", "secret"), ("sub/w.safetensors", "outside")):
        content = ScheduleFile(name="x", backbone=backbone, depths=(10,) * 10, weights=weights)
        write_schedule_file(inside / "s.yaml", content)
        (inside / weights.split("/")[0]).symlink_to(tmp_path / target)
        done, _ = sample(space, "--schedule", inside / "s.yaml")
        assert done.code == 2
        assert "a link leads out of its folder" in done.err
