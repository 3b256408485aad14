"""Commands with lost, narrow or odd streams, and errors that have their own line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedsearch.cli import main as cli_main
from schedsearch.cli.main import main

RUN = [sys.executable, "-m", "schedsearch"]
FOLDERS = [str(Path.cwd()), *(name for name in sys.path if Path(name).is_absolute())]
HERE = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS)}


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&- <&-", "1</dev/null", "2</dev/null"])
def test_a_closed_stream_is_no_failure(closing: str) -> None:
    shell = f'"{sys.executable}" -m schedsearch presets {closing}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check nowhere 2>/dev/full", 2),
        ("check nowhere 2>&1 >/dev/null | true", 2),
        ("presets 2>/dev/full", 0),
        ("presets >/dev/full", 5),
        ("presets >/dev/full 2>&1", 5),
        ("presets | true", 141),
    ],
)
def test_what_cannot_be_shown_keeps_the_exit_code(command: str, code: int) -> None:
    shell = f'set -o pipefail; "{sys.executable}" -m schedsearch {command}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check digits_dit", 0),
        ("run digits_dit", 2),
        ("sample digits_dit --out x.npz", 2),
        ("check ~nosuchuser/s.yaml", 2),
    ],
)
def test_a_current_folder_or_home_that_is_gone(tmp_path: Path, command: str, code: int) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f'rmdir "{gone}"; "{sys.executable}" -m schedsearch {command}'
    done = subprocess.run(
        ["bash", "-c", shell], cwd=gone, env=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert ("current folder is gone" in done.stderr) == (code == 2 and "~" not in command)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_cannot_show_a_character(encoding: str, tmp_path: Path) -> None:
    space = tmp_path / "größe → 実験.yaml"
    done = subprocess.run(
        [*RUN, "check", str(space)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"->" in done.stderr
    assert b"??" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError("Unable to allocate 3 TiB"), 2, "out of memory: Unable to allocate 3 TiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate"), 2, "out of memory"),
        (
            OSError(36, "File name too long", "x" * 9),
            2,
            "Cannot use xxxxxxxxx: File name too long",
        ),
        (PermissionError(13, "Permission denied", "/a"), 2, "Cannot use /a: Permission denied"),
        (OSError(24, "Too many open files", "/a"), 5, "ulimit -n"),
        (OSError(28, "No space left on device"), 5, "disk:"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 2, "not UTF-8"),
        (ZeroDivisionError("by zero"), 1, "internal error: ZeroDivisionError"),
    ],
)
def test_code_1_is_for_defects_alone(
    error: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    command = type("Failing", (), {"take_action": staticmethod(fail)})
    monkeypatch.setattr(cli_main, "_command", lambda _: command)
    assert main(["presets"]) == code
    assert said in capsys.readouterr().err


def test_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    main(["presets"])
    assert (sys.stdout, sys.stderr) == before


def test_a_hostile_name_does_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text('"\\e]0;owned\\a": 1\nname: "\\e[2J"\n')
    assert main(["check", str(tmp_path / "s.yaml")]) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.err + shown.out
    assert "\\x1b" in shown.err
