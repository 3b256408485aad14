"""What every solver promises, and which settings build which solver."""

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from gaussian_data import MEAN, Tape, bent_denoiser, best_denoiser, make_noise
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import DDPMProcess, NoiseProcess, VPProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.diffusion.solvers.times import Spacing, ddim_times, dpm_solver_times
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import SolverSettings

PROCESSES: dict[str, NoiseProcess] = {
    "linear": DDPMProcess(),
    "cosine": DDPMProcess("cosine"),
    "vp": VPProcess(),
    "flow": FlowProcess("sigma1000"),
}
SPACINGS: tuple[Spacing, ...] = ("linspace", "leading", "trailing")
DPM = [
    {"name": "dpm_solver", "order": order, "algorithm": algorithm, "method": method}
    for order in (1, 2, 3)
    for algorithm in ("dpmsolver++", "dpmsolver")
    for method in ("multistep", "singlestep")
]
DISCRETE: list[dict[str, Any]] = [
    {"name": "ddpm", "variance": "fixed_small"},
    {"name": "ddpm", "variance": "fixed_large"},
    {"name": "ddpm", "variance": "learned"},
    {"name": "ddim"},
    {"name": "ddim", "eta": 0.7},
    *DPM,
]
CONTINUOUS: list[dict[str, Any]] = [
    {"name": "euler_maruyama"},
    {"name": "euler_maruyama", "end_time": 5.0},
    {"name": "dpm_solver", "end_time": 1.0},
    *DPM,
]
FLOW: list[dict[str, Any]] = [
    *({"name": name} for name in ("flow_euler", "flow_heun", "sit_sde", "dpm_solver")),
    *({"name": name, "shift": 3.0} for name in ("flow_euler", "flow_heun", "dpm_solver")),
    {"name": "sit_sde", "end_time": 10.0},
    {"name": "dpm_solver", "order": 1},
]
ALL = [
    *(("flow", options) for options in FLOW),
    *(("linear", options) for options in DISCRETE),
    *(("cosine", options) for options in DISCRETE),
    *(("vp", options) for options in CONTINUOUS),
    *(
        ("linear", {**options, "spacing": spacing})
        for options in DISCRETE
        for spacing in ("leading", "trailing")
        if options.get("method") != "singlestep"
    ),
]


def name_of(value: object) -> str:
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


def denoiser_of(wants_variance: bool, calls: list[float]) -> Any:
    def denoise(x: Tensor, t: float) -> Tensor:
        assert not torch.is_grad_enabled()
        calls.append(t)
        eps = bent_denoiser(x, t)
        return torch.cat([eps, torch.sin(7 * x)], dim=1) if wants_variance else eps

    return denoise


@pytest.mark.parametrize("num_steps", [4, 7, 15, 50])
@pytest.mark.parametrize(("process", "options"), ALL, ids=name_of)
def test_contract_of_every_solver(process: str, options: dict[str, Any], num_steps: int) -> None:
    num_steps += num_steps % 2 if options["name"] == "flow_heun" else 0
    settings = SolverSettings(num_steps=num_steps, **options)
    solver = build_solver(settings, PROCESSES[process], learned_variance=True)
    assert solver.wants == ("velocity" if process == "flow" else "eps")
    learned = options.get("variance") == "learned"
    stochastic = "eta" in options or options["name"] in (
        "ddpm",
        "euler_maruyama",
        "sit_sde",
    )
    assert solver.wants_variance == learned
    assert solver.process is PROCESSES[process]
    assert solver.num_steps == num_steps == len(solver.times)
    assert all(isinstance(t, float) and 0 <= t <= 1000 for t in solver.times)
    again = solver.calls_per_step > 1  # Heun's next step starts where the last one ended
    assert all(a > b or (again and a == b) for a, b in itertools.pairwise(solver.times))
    ExitSchedule.flat(3).visited(solver.times)  # on the clock, so no error

    noise = make_noise(2, torch.float32)
    runs = []
    for _ in range(2):  # nothing is remembered from the first time
        calls: list[float] = []
        tape = Tape(noise)
        runs.append(solver.sample(denoiser_of(learned, calls), noise, tape))
        assert tuple(calls) == solver.times  # known without sampling
        assert tape.calls == (num_steps - 1 if stochastic else 0)  # none in the last step
    assert torch.equal(runs[0], runs[1])
    calls = []
    trajectory = solver.trajectory(denoiser_of(learned, calls), noise, Tape(noise))
    assert not calls
    steps = []
    for x in trajectory:  # a step is one network call
        steps.append(x)
        assert tuple(calls) == solver.times[: len(steps)]
        assert torch.is_grad_enabled()  # out here
    assert len(steps) == num_steps
    assert torch.equal(steps[-1], runs[0])
    assert runs[0].shape == noise.shape
    assert runs[0].dtype == torch.float32
    assert bool(torch.isfinite(runs[0]).all())
    assert not runs[0].requires_grad
    assert torch.equal(noise, make_noise(2, torch.float32))  # left alone

    # Float32 is a rounding of the same computation. In the noise, large steps next to the data
    # multiply the rounding as they do the error.
    double = make_noise(2)
    exact = solver.sample(denoiser_of(learned, []), double, Tape(double))
    assert exact.dtype == torch.float64
    scale = float(exact.abs().max())
    assert float((runs[0] - exact).abs().max()) < 1e-3 * scale
    if stochastic:
        with pytest.raises(ValueError, match="step_noise"):
            solver.sample(denoiser_of(learned, []), noise)


def possible_steps(process: str, options: dict[str, Any]) -> range:
    """Numbers of steps up to 1000 that a solver takes."""
    if options.get("method") == "singlestep":  # one update; the third order ends with a lower one
        return range({1: 1, 2: 2, 3: 4}[options["order"]], 1001)
    if process == "flow":
        return {"flow_heun": range(2, 1001, 2), "sit_sde": range(2, 1001)}.get(
            options["name"], range(1, 1001)
        )
    if options["name"] != "dpm_solver" or process == "vp":
        return range(1, 1001)
    # Equal steps in time must end before timestep 0, and visit none twice.
    if options.get("spacing") != "trailing":
        return range(1, 1000)
    return range(1, 667 if options["algorithm"] == "dpmsolver" else 1001)


@pytest.mark.parametrize(("process", "options"), ALL, ids=name_of)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 666, 667, 999, 1000])
def test_extreme_numbers_of_steps(process: str, options: dict[str, Any], num_steps: int) -> None:
    settings = SolverSettings(num_steps=num_steps, **options)
    if num_steps not in possible_steps(process, options):
        with pytest.raises(ConfigError, match=r"solver\.num_steps: "):
            build_solver(settings, PROCESSES[process], learned_variance=True)
        return
    solver = build_solver(settings, PROCESSES[process], learned_variance=True)
    again = num_steps // 2 - 1 if solver.calls_per_step == 2 else 0
    assert len(set(solver.times)) == num_steps - again
    if num_steps > 2:
        return  # costs seconds, and the next test does it once
    noise = make_noise(1, torch.float32)
    samples = solver.sample(denoiser_of(solver.wants_variance, []), noise, Tape(noise))
    assert bool(torch.isfinite(samples).all())


@pytest.mark.parametrize(
    ("process", "options"),
    [
        ("linear", {"name": "ddpm"}),
        ("cosine", {"name": "ddim", "eta": 1.0}),
        ("linear", {"name": "dpm_solver", "num_steps": 999, "order": 3}),
        ("vp", {"name": "dpm_solver", "method": "singlestep", "order": 3}),
        ("vp", {"name": "euler_maruyama"}),
        *(("flow", {"name": name}) for name in ("flow_euler", "flow_heun", "sit_sde")),
        ("flow", {"name": "dpm_solver", "shift": 3.0}),
    ],
)
def test_a_thousand_steps(process: str, options: dict[str, Any]) -> None:
    solver = build_solver(SolverSettings(**{"num_steps": 1000, **options}), PROCESSES[process])
    noise = make_noise(1, torch.float32)
    samples = solver.sample(denoiser_of(False, []), noise, Tape(noise))
    assert bool(torch.isfinite(samples).all())
    # With the best denoiser of N(MEAN, STD ** 2), the start at its mean ends at the mean.
    still = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    found = solver.sample(best_denoiser(solver), still, lambda: still)
    assert float(found) == pytest.approx(MEAN, abs=0.01)


@pytest.mark.parametrize("name", ["ddim", "dpm_solver"])
def test_without_noise_to_take_away_the_start_is_scaled(name: Any) -> None:
    """Of a prediction of zero the data is x / sqrt(alpha bar), whatever the steps in between."""
    solver = build_solver(SolverSettings(name=name, num_steps=10), PROCESSES["linear"])
    noise = make_noise()
    bar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * t / 999) for t in range(1000))
    samples = solver.sample(lambda x, t: torch.zeros_like(x), noise, Tape(noise))
    torch.testing.assert_close(samples, noise / math.sqrt(bar), rtol=1e-4, atol=1e-4)


def test_nothing_is_clipped() -> None:
    for name in ("ddpm", "ddim", "dpm_solver"):
        solver = build_solver(SolverSettings(name=name, num_steps=10), PROCESSES["linear"])  # type: ignore[arg-type]
        noise = make_noise()
        samples = solver.sample(lambda x, t: torch.zeros_like(x), noise, Tape(noise))
        assert samples.abs().max() > 10


def test_a_batch_is_its_images() -> None:
    # Noise of the steps included: an image does not depend on what it is sampled with.
    for process, options in (("linear", {"name": "ddpm"}), ("vp", {"name": "euler_maruyama"})):
        solver = build_solver(SolverSettings(num_steps=6, **options), PROCESSES[process])  # type: ignore[arg-type]
        noise = make_noise(3)
        tape = Tape(noise)
        noises = [tape() for _ in range(5)]
        together = solver.sample(bent_denoiser, noise, iter(noises).__next__)
        alone = solver.sample(bent_denoiser, noise[1:2], iter([z[1:2] for z in noises]).__next__)
        torch.testing.assert_close(together[1:2], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_no_timestep_comes_twice(spacing: Spacing) -> None:
    for num_steps in range(1, 1001):
        assert len(set(ddim_times(spacing, num_steps))) == num_steps
    for num_steps in range(1, 1000):
        assert len(set(dpm_solver_times(spacing, num_steps))) == num_steps
    if spacing != "trailing":  # ends at timestep 0, which is therefore not visited
        assert all(dpm_solver_times(spacing, n)[-1] > 0 for n in range(1, 1000))
    else:
        assert (dpm_solver_times(spacing, 666)[-1], dpm_solver_times(spacing, 667)[-1]) == (1, 0)


def test_ddim_times_of_dit() -> None:
    assert ddim_times("linspace", 5) == (999, 749, 500, 250, 0)
    assert ddim_times("leading", 4) == (750, 500, 250, 0)
    assert ddim_times("trailing", 4) == (999, 749, 499, 249)
    assert ddim_times("linspace", 1) == (999,)
    assert ddim_times("linspace", 1000) == tuple(range(999, -1, -1))


def test_dpm_solver_times_leave_the_last_point_out() -> None:
    assert dpm_solver_times("linspace", 4) == (999, 749, 500, 250)
    assert len(dpm_solver_times("linspace", 20)) == 20
    assert dpm_solver_times("linspace", 20)[-1] == 50


@pytest.mark.parametrize(
    ("learned_variance", "expected"), [(True, True), (False, False)], ids=["learned", "fixed"]
)
def test_auto_takes_the_variance_that_is_there(learned_variance: bool, expected: bool) -> None:
    solver = build_solver(
        SolverSettings(name="ddpm", num_steps=5),
        PROCESSES["linear"],
        learned_variance=learned_variance,
    )
    assert solver.wants_variance is expected
    fixed = build_solver(
        SolverSettings(name="ddpm", num_steps=5, variance="fixed_large"),
        PROCESSES["linear"],
        learned_variance=learned_variance,
    )
    assert not fixed.wants_variance


@pytest.mark.parametrize(
    ("process", "options", "message"),
    [
        ("vp", {"name": "ddim"}, r"solver\.name: ddim cannot.*; set it to dpm_solver or euler"),
        ("vp", {"name": "ddpm"}, r"solver\.name: ddpm cannot.*; set it to dpm_solver or euler"),
        ("linear", {"name": "euler_maruyama"}, r"solver\.name: .*process ddpm; set it to ddpm"),
        ("linear", {"name": "flow_euler"}, r"solver\.name: .*process ddpm; .*process to flow"),
        ("flow", {"name": "ddpm"}, r"solver\.name: .*process flow; set it to flow_euler or"),
        ("flow", {"name": "flow_heun", "num_steps": 7}, r"solver\.num_steps: .*two .*an even"),
        ("flow", {"name": "sit_sde", "shift": 3.0}, r"solver\.shift: .*equal steps"),
        ("linear", {"name": "ddpm", "variance": "learned"}, r"solver\.variance: .*; set it to a"),
        ("linear", {"name": "ddpm", "eta": 0.5}, r"solver\.eta: .*ddim, got 0\.5.*; remove"),
        ("linear", {"name": "dpm_solver", "num_steps": 1000}, r"solver\.num_steps: .*999 steps"),
    ],
)
def test_impossible_settings(process: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_solver(SolverSettings(**options), PROCESSES[process])


def test_a_missing_variance_is_named() -> None:
    solver = build_solver(
        SolverSettings(name="ddpm", num_steps=3), PROCESSES["linear"], learned_variance=True
    )
    noise = make_noise()
    with pytest.raises(ValueError, match=r"needs 1 channels.*has 0 there.*fixed_small"):
        solver.sample(bent_denoiser, noise, Tape(noise))


def test_all_settings_are_covered() -> None:
    # A new option must be added to ALL, or the contract test does not see it.
    tested = {key for _, options in ALL for key in options}
    others = {"num_steps", "cfg_scale", "cfg_channels", "cfg_interval"}
    assert {field.name for field in dataclasses.fields(SolverSettings)} - others == tested
