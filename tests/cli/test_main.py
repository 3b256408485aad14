"""The command line itself: help, options in any place, and what errors look like."""

import argparse
import errno
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from schedsearch.cli import main as cli
from schedsearch.exceptions import NoResultError, SchedSearchError, StorageError
from schedsearch.version import __version__


def test_help_is_fast_and_light() -> None:
    heavy = ("torch", "ray", "optuna", "timm", "pydantic", "rich", "numpy", "yaml")
    code = (
        "import sys; from schedsearch.cli.main import main; code = main(['--help']); "
        f"print(code, [m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    seconds, bare = [], []
    for _ in range(5):  # side by side, since the machine may be busy
        for times, program in ((bare, "import argparse"), (seconds, code)):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            times.append(time.perf_counter() - start)
    assert done.stderr.strip() == "0 []"
    assert all(command.name in done.stdout for command in cli.COMMANDS)
    assert min(seconds) < 4 * min(bare)


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_every_command_has_help_without_heavy_imports(command: str) -> None:
    code = (
        f"import sys; from schedsearch.cli.main import main; code = main(['{command}', '-h']); "
        "print(code, [m for m in ('torch', 'ray', 'optuna') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "0 []"
    assert "--debug" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"schedsearch {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["check"],
        ["check", "x", "--nonsense"],
        ["check", "x", "--over", "a=1"],
        ["check", "x", "-q", "-v"],
        ["front", "x", "--format", "xml"],
        ["pick", "x"],
        ["pick", "x", "--knee", "--max-fid", "3"],
        ["pick", "x", "--max-fid", "nan"],
        ["pick", "x", "--max-latency-ms", "0"],
        ["export", "x", "--knee"],
        ["export", "x", "--trial", "-1", "-o", "f"],
        ["sample", "x", "--num", "1_0", "--out", "f"],
        ["latency", "x", "--batch", "0"],
        ["presets", "--depth", "0"],
    ],
)
def test_wrong_usage_exits_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert "usage:" in captured.err
    assert captured.out == ""


# ---- errors -----------------------------------------------------------------------------------


@pytest.fixture
def acting(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replaces the action of ``presets``; ``seen`` holds the arguments it got."""
    holder = SimpleNamespace(error=None, seen=None)

    def take_action(self: cli.Command, args: argparse.Namespace) -> int:
        holder.seen = args
        if holder.error is not None:
            raise holder.error
        return 0

    monkeypatch.setattr(cli.Command, "take_action", take_action)
    return holder


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SchedSearchError("the rule. The remedy."), 2, "schedsearch: the rule. The remedy.\n"),
        (NoResultError("nothing"), 4, "schedsearch: nothing\n"),
        (StorageError("locked"), 5, "schedsearch: locked\n"),
        (OSError(errno.ENOSPC, "No space left"), 5, "schedsearch: disk: [Errno 28] No space"),
        (KeyboardInterrupt(), 130, "schedsearch: interrupted\n"),
        (
            KeyError("a\nb"),
            1,
            "schedsearch: internal error: KeyError: 'a\\nb'; run again with --debug for the "
            "traceback\n",
        ),
        (OSError(errno.EACCES, "denied"), 1, "schedsearch: internal error: PermissionError"),
    ],
)
def test_errors_are_one_line(
    acting: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    text: str,
) -> None:
    acting.error = error
    assert cli.main(["presets"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(text)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert cli.main(["presets", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-v", "-q", "--debug"])
def test_common_options_stand_before_and_after(acting: SimpleNamespace, option: str) -> None:
    names = {"-v": "verbose", "-q": "quiet", "--debug": "debug"}
    for argv in ([option, "presets"], ["presets", option]):
        assert cli.main(argv) == 0
        on = {name for name in names.values() if getattr(acting.seen, name)}
        assert on == {names[option]}
    assert cli.main(["presets"]) == 0
    assert not any(getattr(acting.seen, name) for name in names.values())


def test_a_reader_that_goes_away_sees_no_traceback() -> None:
    code = (
        "import sys, schedsearch.cli.main as m\n"
        "m.Command.take_action = lambda self, args: print('x\\n' * 9999999) or 0\n"
        "sys.exit(m.main(['presets']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == cli.BROKEN_PIPE


def test_arguments_of_the_contract(acting: SimpleNamespace) -> None:
    """Every form in the contract's table parses."""
    lines = """
        run S -o a.b=1 -o c=2 --output D --address auto --dry-run
        check S
        status R
        front R --format json
        pick R --knee
        pick R --max-latency-ms 3.5
        pick R --max-fid 3
        pick R --max-fid-increase 0
        export R --trial 3 -o F.yaml --weights F.safetensors
        export R --max-fid-increase 5 -o F.yaml
        sample S --schedule full --weights F --seed 1 --num 4 --out F.npz --grid F.png --raw
        sample S --noise F.npy --labels F.npy --out F.npz
        latency S --schedule full --schedule D3-DiT --batch 1 --batch 8
        dashboard R
        convert IN OUT --to diffusers --which ema --backbone DiT-XL/2 --force
        presets --depth 10
    """
    parsed = {}
    for line in lines.strip().splitlines():
        assert cli.main(line.split()) == 0, line
        parsed[line.strip()] = vars(acting.seen)

    def check(line: str, **expected: object) -> None:
        found = parsed[line]
        assert {key: found[key] for key in expected} == expected

    check("front R --format json", command="front", run="R", format="json")
    check("pick R --knee", knee=True, max_fid=None, max_latency_ms=None)
    check("pick R --max-latency-ms 3.5", knee=False, max_latency_ms=3.5)
    check("pick R --max-fid-increase 0", max_fid_increase=0.0)
    check("export R --trial 3 -o F.yaml --weights F.safetensors", trial=3)
    check("latency S --schedule full --schedule D3-DiT --batch 1 --batch 8", batches=[1, 8])
    check("presets --depth 10", depth=10)
    check("run S -o a.b=1 -o c=2 --output D --address auto --dry-run", dry_run=True)
    check("run S -o a.b=1 -o c=2 --output D --address auto --dry-run", address="auto")
    assert cli.main(["run", "S", "-o", "a.b=1", "-o", "c=2"]) == 0
    assert acting.seen.overrides == ["a.b=1", "c=2"]
