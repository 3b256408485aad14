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
    assert done.stdout.startswith(f"usage: schedsearch {command} ")
    assert "--debug" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"schedsearch {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("", "schedsearch: the following arguments are required: COMMAND"),
        ("nonsense", "argument COMMAND: must be one of run, check, "),
        ("rnu digits_dit", "presets; got 'rnu'; did you mean 'run'?"),
        ("--quite check x", "schedsearch: unknown option '--quite'; did you mean '--quiet'?"),
        ("check", "schedsearch check: the following arguments are required: SPACE"),
        ("check x y", "takes no further argument, got 'y'; see `schedsearch check --help`."),
        ("check x --nonsense", "unknown option '--nonsense'; see `schedsearch check --help`."),
        ("check x --over a=1", "unknown option '--over'; did you mean '--override'?"),
        ("check x -z", "unknown option '-z'"),
        ("check x -q -v", "argument -v/--verbose: not allowed with argument -q/--quiet"),
        ("front x --format jsn", "one of table, json, yaml, csv; got 'jsn'; did you mean 'json'?"),
        ("front x --format xml", "got 'xml'; see `schedsearch front --help`."),
        ("pick x", "one of the arguments --knee --max-latency-ms --max-fid"),
        ("pick x --max-latency=3", "unknown option '--max-latency'; did you mean '--max-latency-"),
        ("pick x --knee --max-fid 3", "argument --max-fid: not allowed with argument --knee"),
        ("pick x --max-fid nan", "argument --max-fid: expected a number >= 0, got 'nan'"),
        ("pick x --max-latency-ms 0", "argument --max-latency-ms: expected a number > 0"),
        ("export x --knee", "the following arguments are required: -o/--output"),
        ("export x --trial -1 -o f.yaml", "argument --trial: expected an integer >= 0, got '-1'"),
        ("export x --trial", "argument --trial: expected one argument"),
        ("sample x --num 1_0 --out f.npz", "argument --num: expected an integer >= 1, got '1_0'"),
        (
            "sample x --out f.jpg",
            "argument --out: Cannot write f.jpg: its name must end in .npz. ",
        ),
        ("sample x --out no/f.npz", "argument --out: Cannot write no/f.npz: there is no folder"),
        ("sample x --out f.npz --grid g.pdf", "g.pdf: its name must end in .png."),
        ("export x --knee -o s.json", "must end in .yaml or .yml. Name for example s.yaml."),
        ("export x --knee -o s.yaml --weights w.pt", "must end in .safetensors."),
        ("compare x --plot p.pdf", "argument --plot: Cannot write p.pdf: its name must end in"),
        ("plan x --plot /", "Cannot write /: it is a folder. Name a file."),
        ("run x --output /dev/null", "argument --output: Cannot make the folder /dev/null"),
        ("plan x --output /dev/null/a", "Cannot make the folder /dev/null/a: /dev/null is no"),
        ("compare x --output /dev/null", "/dev/null is no folder. Choose another name."),
        ("profile x --output /dev/null", "/dev/null is no folder. Choose another name."),
        ("plan x --target-blocks 1", "expected a share above 0 and below 1, got '1'"),
        ("latency x --batch 0", "argument --batch: expected an integer >= 1, got '0'"),
        ("presets --depth 0", "argument --depth: expected an integer >= 1, got '0'"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_2(
    argv: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv.split()) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("schedsearch")
    assert captured.err.endswith(("?\n", ".\n"))
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_value_after_two_dashes_or_with_a_blank_is_no_option(
    acting: SimpleNamespace,
) -> None:
    assert cli.main(["check", "-o", "--a b", "--", "--space"]) == 0
    assert (acting.seen.space, acting.seen.overrides) == ("--space", ["--a b"])


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
