"""``schedsearch check`` and ``schedsearch presets``."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schedsearch.cli.main import main


def test_check_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from schedsearch.cli.main import main; code = main(['check', 'digits_dit']); "
        "print(code, [m for m in ('torch', 'ray', 'optuna', 'timm') if m in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "0 []"
    assert "digits_dit.yaml is valid" in done.stdout
    assert "43,758 schedules" in done.stdout
    assert "D3-DiT  10 10 9 9 7 7 6 6 4 4" in done.stdout


def test_check_prints_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("name: x y\nspace: {min_dpeth: 2, max_depth: 3}\nserch: {}\n")
    assert main(["check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert f"{file}:2:9: space.min_dpeth: unknown key; did you mean 'min_depth'?" in lines
    assert f"{file}:3:1: serch: unknown key; did you mean 'search'?" in lines
    assert all(line.startswith(f"{file}:") for line in lines)
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("diffusion", "shown"),
    [
        ("{betas: cosine, prediction: v}", "cosine betas, the network predicts v"),
        ("{process: flow, time: sit}", "fed 1 - sigma and predicts data - noise; clock: 1000"),
        ("{process: flow, time: sigma}", "is fed sigma and predicts noise - data; clock"),
        ("{process: flow, time: sigma1000, prediction: x0}", "fed 1000 sigma and predicts the d"),
    ],
)
def test_check_says_what_the_network_is_fed(
    diffusion: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = "flow_euler" if "flow" in diffusion else "ddim"
    options = ("-o", f"diffusion={diffusion}", "-o", f"solver={{name: {solver}}}")
    assert main(["check", "digits_dit", *options, "-o", "warm_start=[full]"]) == 0
    assert shown in capsys.readouterr().out


def test_check_shows_both_shifts_of_flow_matching(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(diffusion: str) -> str:
        sections = (
            f"diffusion={{process: flow, time: sigma1000{diffusion}}}",
            "solver={name: flow_euler, num_steps: 28, shift: 3}",
            "warm_start=[full]",
        )
        options = [word for section in sections for word in ("-o", section)]
        assert main(["check", "digits_dit", *options]) == 0
        return capsys.readouterr().out

    plain = printed("")
    assert "training times: uniform, shift 1\n" in plain
    assert "solver      flow_euler, 28 steps, shift 3\n" in plain
    assert "hint: training times have the shift 1, the solver's 3;" in plain
    same = printed(", times: logit_normal, shift: 3.0")
    assert "training times: logit_normal, shift 3\n" in same
    assert "hint: training times" not in same


def test_check_refuses_weights_of_repa_with_the_time_of_sit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "repa.safetensors"
    names = ("x_embedder.proj.weight", "projectors.0.0.weight")
    save_file({name: np.ones((2, 2), np.float32) for name in names}, path)
    sizes = "input_size: 8, patch_size: 2, in_channels: 1, hidden_size: 8, depth: 10, num_heads: 2"
    options = [
        f"backbone={{family: sit, config: {{{sizes}, num_classes: 10}}, checkpoint: {path}}}",
        "solver={name: flow_euler}",
        "warm_start=[full]",
    ]
    words = [word for option in options for word in ("-o", option)]
    times = [("-o", f"diffusion={{process: flow, time: {time}}}") for time in ("sit", "sigma")]
    assert main(["check", "digits_dit", *words, *times[0]]) == 2
    assert "time: sigma, as REPA is" in capsys.readouterr().err
    assert main(["check", "digits_dit", *words, *times[1]]) == 0


def test_check_takes_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "digits_dit", "-o", "space.max_depth=11"]) == 2
    assert capsys.readouterr().err == (
        "-o space.max_depth=11: space.max_depth: the backbone has 10 exit blocks, got 11; "
        "set it to 10 or less\n"
    )
    assert main(["check", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("schedsearch: There is no search space file")


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0])[:2] == ["preset", "blocks"]
    d3 = next(line for line in lines if line.startswith("D3-DiT"))
    depths = "28 28 24 24 20 20 16 16 12 12"
    assert cells(d3) == ["D3-DiT", "28", depths, "20.0", "71%", "30.5%"]
    assert len({line.rfind("%") for line in lines[1:]}) == 1, "columns are aligned"


def test_presets_scaled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--depth", "10"]) == 0
    out = capsys.readouterr().out
    d3 = next(line for line in out.splitlines() if line.startswith("D3-DiT"))
    for text in ("10 10  9  9  7  7  6  6  4  4", "7.2", "72%", "30.5%"):
        assert text in d3
    assert "floor(d * 10 / D + 1/2)" in out


def test_presets_on_the_clock_of_flow_matching(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--clock", "flow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    d3 = next(line for line in lines if line.startswith("D3-DiT"))
    assert cells(d3) == ["D3-DiT@flow", "28", "28 28 28 28 24 24 24 20 20 16", "24.0", "86%", "-"]
    assert not any(line.startswith("D3-DiT ") for line in lines)
    assert "signal-to-noise ratio" in lines[-1]


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (
            ["recipe.num_steps=7", "evaluation.confirm_seeds=0", "evaluation.auditor=null"],
            ["fine-tune   7 steps for every schedule", "confirmed   nothing"],
        ),
        (
            ["recipe.weights=shared", "recipe.num_steps=7", "evaluation.confirm_seeds=4"],
            [
                "fine-tune   7 steps once, on random schedules; all trials share the weights",
                "confirmed   4 held-out seeds",
            ],
        ),
    ],
    ids=["own weights", "shared weights"],
)
def test_check_says_what_a_run_would_do(
    capsys: pytest.CaptureFixture[str], overrides: list[str], lines: list[str]
) -> None:
    options = [word for override in overrides for word in ("-o", override)]
    assert main(["check", "digits_dit", *options]) == 0
    printed = capsys.readouterr().out
    for line in lines:
        assert f"  {line}" in printed


def test_check_shows_the_twins_that_a_comparison_will_measure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["-o", "warm_start=[full, twin:deediff-0.75]"]
    assert main(["check", "digits_dit", *options]) == 0
    printed = capsys.readouterr().out
    assert "  warm start  full               10 10 10" in printed
    assert "twin:deediff-0.75  depths come from `schedsearch compare`" in printed
