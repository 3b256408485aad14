"""Files that cannot be written are found before any work."""

import os
from pathlib import Path

import pytest

from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import replacing
from schedsearch.files.targets import check_target


def test_what_can_be_written_passes(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(b"x")
    for name in ("old.npz", "new.npz", "NEW.NPZ"):
        check_target(tmp_path / name, (".npz",))


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for name, reason in {
        "no/x.npz": "there is no folder",
        "file/x.npz": "there is no folder",
        ".": "it is a folder",
        "pipe": "device or pipe",
        "lost": "a link to nothing",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            check_target(tmp_path / name, (".npz",))
    with pytest.raises(ConfigError, match="device or pipe"):
        check_target(Path("/dev/null"))


@pytest.mark.parametrize("folder", ["/proc", "/sys", "/dev/fd"])
def test_a_folder_that_takes_no_files(folder: str) -> None:
    with pytest.raises(ConfigError, match=f"Cannot write {folder}/x.npz"):
        check_target(Path(folder) / "x.npz")


def test_a_name_whose_temporary_one_is_too_long(tmp_path: Path) -> None:
    for name in ("x" * 246, "\u00fc" * 122):
        with pytest.raises(ConfigError, match="File name too long"):
            check_target(tmp_path / f"{name}.npz")
    assert list(tmp_path.iterdir()) == []


def test_an_ending_that_means_another_format(tmp_path: Path) -> None:
    for name in ("x.jpg", "x", "x.npz.zip"):
        with pytest.raises(ConfigError, match=r"must end in \.yaml or \.yml\. Name for example"):
            check_target(tmp_path / name, (".yaml", ".yml"))


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not replaced"), replacing(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
