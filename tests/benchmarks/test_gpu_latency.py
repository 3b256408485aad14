"""The GPU script on a CPU: a tiny network, without the packages that a GPU machine may lack."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_latency import DEEDIFF, main
from benchmarks.gpu_rows import GpuRow
from benchmarks.recorded_exits import FILE, RecordedExit, Recording
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import DDIM
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from tests.backbones.small_models import DEPTH, make_dit

ROOT = Path(__file__).resolve().parents[2]
MISSING = ("optuna", "ray", "diffusers", "cleanfid", "optuna_dashboard", "sqlalchemy", "sklearn")
"""Packages that the script must do without."""

ROWS = [
    "full", "D3-DiT", "D7-DiT", DEEDIFF, "fora-2", "tome-0.2", "tome-0.6", "steps-1",
    "plan-0.62-diagonal", "plan-0.45-diagonal", "plan-0.35-diagonal", "plan-0.45-map",
]  # fmt: skip
SMALL = [
    "--model", "DiT-S/8", "--device", "cpu", "--dtype", "float32", "--batches", "2", "1",
    "--num-steps", "2", "--fewer-steps", "1", "--repeats", "2",
]  # fmt: skip


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file, and what the script printed."""
    file = tmp_path_factory.mktemp("gpu") / "rows.jsonl"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({MISSING!r})); "
        "from benchmarks.gpu_latency import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, "--output", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return file, done.stdout


def test_every_row_is_measured_the_most_useful_first(measured: tuple[Path, str]) -> None:
    rows = rows_in(measured[0])
    assert [(row["protocol"]["batch"], row["row"]) for row in rows] == [
        (batch, name) for batch in (2, 1) for name in ROWS
    ]
    for row in rows:
        assert row["ms"] > 0
        assert row["protocol"]["num_steps"] == 2
        assert row["ratio"] == pytest.approx(row["ms"] / row["full_ms"])
        assert (row["ratio"] == 1.0) == (row["row"] == "full")


def test_a_row_says_what_the_method_keeps(measured: tuple[Path, str]) -> None:
    held = {(r["protocol"]["batch"], r["row"]): r["held_mb"] for r in rows_in(measured[0])}
    maps = {row["row"]: row["map_mb"] for row in rows_in(measured[0])}
    assert held[2, "plan-0.45-map"] == pytest.approx(2 * held[1, "plan-0.45-map"], abs=0.002)
    assert held[2, "fora-2"] > held[2, "plan-0.45-map"] > held[2, "D3-DiT"] == 0
    width, numbers = 384, 4e-6
    assert maps["plan-0.45-map"] == pytest.approx((2 * width + 1) * width * numbers, abs=0.001)
    assert maps["plan-0.45-diagonal"] == pytest.approx(3 * width * numbers, abs=0.001)
    assert maps["D3-DiT"] == maps["fora-2"] == 0


def test_the_table_has_a_column_per_batch(measured: tuple[Path, str]) -> None:
    header, _, *lines = measured[1].splitlines()
    assert header == "| row | batch 1 | batch 2 | held, MB (last batch size) | maps, MB |"
    assert [line.split(" | ")[0] for line in lines] == [f"| {name}" for name in ROWS]


def test_a_second_start_measures_only_what_is_missing(
    measured: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = measured[0].read_text().splitlines(keepends=True)
    file = tmp_path / "rows.jsonl"
    gone = {1, len(ROWS) + 3}  # D3 at batch 2, DeeDiff at batch 1; the last line is torn
    kept = [line for i, line in enumerate(lines) if i not in gone]
    file.write_text("".join(kept)[:-20])
    assert main([*SMALL, "--output", str(file)]) == 0
    added = rows_in(file)[len(kept) - 1 :]
    assert [(r["protocol"]["batch"], r["row"]) for r in added] == [
        (2, "D3-DiT"),
        (1, DEEDIFF),
        (1, ROWS[-1]),
    ]
    before = file.read_bytes()
    monkeypatch.setattr("benchmarks.gpu_latency.Bench.measure", pytest.fail)
    assert main([*SMALL, "--output", str(file)]) == 0
    assert file.read_bytes() == before


def test_it_stops_before_the_time_is_up(
    measured: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    first = json.loads(measured[0].read_text().splitlines()[0])
    file.write_text(GpuRow(**{**first, "full_ms": 60_000.0}).to_json() + "\n")
    assert main([*SMALL, "--output", str(file), "--minutes", "9"]) == 0
    assert len(rows_in(file)) == 1
    assert "time is up before batch 2: D3-DiT, D7-DiT" in capsys.readouterr().err


# ---- recorded exits ------------------------------------------------------------------------


def sample(method: Any, net: Any, cfg_scale: float = 1.0) -> tuple[torch.Tensor, Any]:
    runs: list[Any] = []
    images = generate(
        net,
        method,
        DDIM(DDPMProcess(), (900, 600, 300), 0.0),
        starting_noise(3, 4, net.in_shape),
        balanced_labels(4, net.num_classes),
        4,
        cfg_scale=cfg_scale,
        observe=runs.append,
    )
    return images, runs[0]


class Scheduled:
    """The network's own exits, one depth per sample."""

    def __init__(self, depths: Any) -> None:
        self.depths = depths

    def begin(self, net: Any, times: Any, *, guided: bool) -> Any:
        def call(x: Any, t: Any, y: Any, *, clock: float, step: int) -> Any:
            depths = torch.tensor(self.depths[step] * (2 if guided else 1))
            return net(x, t, y, exit_depth=depths)

        return call


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_replay_leaves_where_the_samples_left(cfg_scale: float) -> None:
    net = make_dit().eval()
    depths = ((1, 1, 2, 1), (3, DEPTH, 2, 3), (DEPTH, 4, DEPTH, DEPTH))
    images, run = sample(RecordedExit(depths), WithUncertainty.of(net).eval(), cfg_scale)
    rows = 2 if cfg_scale != 1 else 1
    assert [step.tolist() for step in run.blocks] == [[*d] * rows for d in depths]
    expected, _ = sample(Scheduled(depths), net, cfg_scale)
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)


def test_a_replay_asks_the_module_after_every_block_that_runs() -> None:
    net = WithUncertainty.of(make_dit()).eval()
    asked: list[int] = []
    ask = net.uem.mean_uncertainty
    net.uem.mean_uncertainty = lambda tokens, index: asked.append(index) or ask(tokens, index)
    sample(RecordedExit(((2,), (DEPTH,), (1,))), net)
    assert asked == [0, 1, *range(DEPTH - 1), 0]


def test_a_recording_is_scaled_to_steps_and_blocks(tmp_path: Path) -> None:
    made = Recording(source="a row", num_blocks=10, depths=((1, 2), (10, 9)))
    made.write(tmp_path / "depths.json")
    assert Recording.read(tmp_path / "depths.json") == made
    assert made.share == pytest.approx(22 / 40)
    assert made.scaled(4, 28).depths == ((3, 6), (3, 6), (28, 25), (28, 25))
    assert made.scaled(1, 3).depths == ((1, 1),)


def test_the_shipped_recording_differs_between_steps_and_samples() -> None:
    shipped = Recording.read(FILE)
    assert len(shipped.depths) == 20
    assert {len(step) for step in shipped.depths} == {64}
    assert all(1 <= depth <= shipped.num_blocks for step in shipped.depths for depth in step)
    assert len(set(shipped.depths)) > 1
    assert any(len(set(step)) > 1 for step in shipped.depths)
