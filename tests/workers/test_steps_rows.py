"""Rows with fewer steps in a worker: every solver, and what steps are fitted on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import write_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.diffusion.solvers.fitted import FittedSolver
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import TrialError
from schedsearch.methods.fitted_steps import FittedStepsNumbers
from schedsearch.methods.method_file import read_method_file
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings.rows import Row
from schedsearch.workers.jobs import RowJob
from schedsearch.workers.rivals import fitted_steps as fitting
from schedsearch.workers.rivals.fitted_steps import fitted_steps
from schedsearch.workers.rivals.measurement import measure_row
from schedsearch.workers.workbench import Workbench, open_workbench

FULL = ExitSchedule.flat(10)


def open_bench(folder: Path, **changes: Any) -> Workbench:
    text = dump_settings(read_settings(write_space(folder, **changes)))
    return open_workbench(text, str(folder / "reference"))


@pytest.mark.parametrize(
    ("solver", "betas"),
    [
        ({"name": "ddpm"}, "linear"),
        ({"name": "ddim"}, "linear"),
        ({"name": "ddim", "eta": 0.5}, "linear"),
        ({"name": "dpm_solver"}, "linear"),
        ({"name": "dpm_solver", "method": "singlestep"}, "vp"),
        ({"name": "euler_maruyama"}, "vp"),
    ],
    ids=str,
)
def test_fewer_steps_with_every_solver(tmp_path: Path, solver: dict[str, Any], betas: str) -> None:
    space = write_space(
        tmp_path,
        solver={**solver, "num_steps": 6},
        diffusion={"betas": betas},
        rivals={"steps": {"kind": "steps", "num_steps": [3]}},
    )
    settings = dump_settings(read_settings(space))
    row = Row(name="steps-3", entry="steps", point=3)
    job = RowJob(settings=settings, run_dir=str(tmp_path / "run"), row=row, training_seed=None)
    (record,) = measure_row(job)
    assert record.share == pytest.approx(0.5)
    assert record.macs == pytest.approx(record.full_macs / 2)
    assert np.isfinite(record.fid)
    file = read_method_file(tmp_path / "run" / "methods" / "steps-3" / "method.yaml")
    assert (file.kind, file.solver, file.num_steps) == ("steps", solver["name"], 3)


@pytest.mark.parametrize(
    "solver",
    [
        {"name": "ddim"},
        {"name": "dpm_solver"},
        {"name": "ddim", "cfg_scale": 1.5},
    ],
    ids=str,
)
def test_a_fit_with_all_steps_samples_as_the_full_run(
    tmp_path: Path, solver: dict[str, Any]
) -> None:
    """On other noise than it was fitted on, with the guidance of the study."""
    bench = open_bench(tmp_path, solver={**solver, "num_steps": 5})
    scale = bench.settings.solver.cfg_scale
    found = fitted_steps(bench, bench.backbone, 5, 40)
    numbers = FittedStepsNumbers(**found.numbers)
    few = FittedSolver(bench.process, numbers.times, numbers.coefficients, numbers.output)
    noise, labels = starting_noise(0, 8, (1, 8, 8)), balanced_labels(8, 10)
    ours, full = (
        generate(bench.backbone, FULL, s, noise, labels, 8, cfg_scale=scale)
        for s in (few, bench.solver)
    )
    torch.testing.assert_close(ours, full, atol=1e-4, rtol=1e-4)
    assert numbers.cfg_scale == scale
    assert (found.num_steps, found.weights) == (5, None)


def test_the_noise_of_the_fit_is_of_the_calibration_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench(tmp_path, evaluation={"seed": 3, "confirm_seeds": 2, "batch_size": 16})
    asked: list[tuple[int, int]] = []

    def noise(seed: int, num: int, shape: tuple[int, int, int]) -> torch.Tensor:
        asked.append((seed, num))
        return starting_noise(seed, num, shape)

    monkeypatch.setattr(fitting, "starting_noise", noise)
    few = fitted_steps(bench, bench.backbone, 2, 40)
    assert asked == [(5003, 40)]
    assert 5003 not in (3, *bench.settings.evaluation.confirm_seeds_used)
    again = fitted_steps(bench, bench.backbone, 2, 40)
    assert again.numbers == few.numbers


def test_a_run_that_is_not_finite_fails_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench(tmp_path)
    broken = torch.full((4, 1, 8, 8), float("nan"))
    monkeypatch.setattr(fitting, "starting_noise", lambda *_: broken)
    with pytest.raises(TrialError, match="cannot be fitted: The states of the calibration run"):
        fitted_steps(bench, bench.backbone, 2, 4)
