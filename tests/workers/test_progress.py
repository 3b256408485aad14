"""A trial's log and saved state."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from schedsearch.runs.folder import STATE_FILE
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.stopping import Stopped


def folder_of(tmp_path: Path, number: int) -> Path:
    folder = tmp_path / f"{number:04d}"
    folder.mkdir(exist_ok=True)
    return folder


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}}


def test_the_log_has_a_line_per_step(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=2)
    assert progress.last_loss is None
    progress.note("hello\n")
    progress.report(1, 0.5, lr=1e-3)
    progress.report(2, 0.25)
    assert (tmp_path / "log.txt").read_text() == (
        "hello\nstep=1 loss=0.500000 lr=0.001\nstep=2 loss=0.250000\n"
    )
    assert progress.last_loss == 0.25


def test_the_state_is_kept_now_and_then_and_asked_for_only_then(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=2)
    asked = []

    def ask(step: int) -> dict[str, Any]:
        asked.append(step)
        return state(step)

    assert progress.restore() is None
    for step in range(1, 6):
        progress.save(step, lambda step=step: ask(step))  # type: ignore[misc]
    assert asked == [2, 4]
    restored = progress.restore()
    assert restored is not None
    assert restored["step"] == 4
    assert restored["model"]["weight"].tolist() == [4.0] * 3
    progress.done()
    assert progress.restore() is None
    assert list(tmp_path.iterdir()) == []


def test_a_retry_takes_the_state_over_once(tmp_path: Path) -> None:
    first, second, third = (folder_of(tmp_path, n) for n in range(3))
    FileProgress(first, save_every=1).save(1, lambda: state(1))
    progress = FileProgress(second, save_every=1)
    progress.take_over(None)
    assert progress.restore() is None
    progress.take_over(first)
    restored = progress.restore()
    assert restored is not None
    assert restored["step"] == 1
    assert not (first / STATE_FILE).exists()
    progress = FileProgress(third, save_every=1)
    progress.take_over(first)
    assert progress.restore() is None


def test_the_cpu_time_of_an_interrupted_attempt_counts(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    progress._earlier = 100.0
    progress.save(1, lambda: state(1))
    again = FileProgress(tmp_path, save_every=1)
    assert again.cpu_seconds < 50
    again.restore()
    assert 100 <= again.cpu_seconds < 150
    kept = FileProgress(tmp_path, save_every=1)
    kept.belongs_to(schedule="another")
    kept.count_earlier()
    assert 100 <= kept.cpu_seconds < 150
    assert (tmp_path / STATE_FILE).is_file(), "it is not set aside"


def test_an_attempt_that_was_interrupted_after_its_last_step_has_a_loss(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    progress.report(3, 0.1 + 0.2)
    progress.save(3, lambda: state(3))
    again = FileProgress(tmp_path, save_every=1)
    again.restore()
    assert again.last_loss == 0.1 + 0.2


@pytest.mark.parametrize("damage", ["empty", "half", "text"])
def test_a_damaged_state_is_set_aside(tmp_path: Path, damage: str) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    progress.save(1, lambda: state(1))
    path = tmp_path / STATE_FILE
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"x"}[damage])
    assert progress.restore() is None
    assert not path.exists()
    assert (tmp_path / "progress.corrupt").exists()
    assert "damaged and was set aside as progress.corrupt" in (tmp_path / "log.txt").read_text()
    progress.save(2, lambda: state(2))
    restored = progress.restore()
    assert restored is not None
    assert restored["step"] == 2


def test_a_state_of_another_fine_tune_is_set_aside(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    progress.belongs_to(schedule="9 8", seed="0")
    progress.save(1, lambda: state(1))
    assert progress.restore() is not None
    for other in ({"schedule": "9 9", "seed": "0"}, {"schedule": "9 8", "seed": "1"}):
        again = FileProgress(tmp_path, save_every=1)
        again.belongs_to(**other)
        assert again.restore() is None
        (tmp_path / "progress.corrupt").replace(tmp_path / STATE_FILE)
    assert progress.restore() is not None


def test_a_stop_keeps_the_state_of_this_step(tmp_path: Path) -> None:
    stop = tmp_path / ".stop"
    progress = FileProgress(tmp_path, save_every=100, stop_file=stop)
    progress.save(1, lambda: state(1))
    assert progress.restore() is None
    stop.touch()
    with pytest.raises(Stopped):
        progress.save(2, lambda: state(2))
    restored = progress.restore()
    assert restored is not None
    assert restored["step"] == 2


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_state_never_runs_code(tmp_path: Path) -> None:
    torch.save({"step": Payload(tmp_path / "ran")}, tmp_path / STATE_FILE)
    assert FileProgress(tmp_path, save_every=1).restore() is None
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    progress.save(1, lambda: state(1))

    def fails() -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        progress.save(2, fails)
    restored = progress.restore()
    assert restored is not None
    assert restored["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
