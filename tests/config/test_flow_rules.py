"""Rules of flow matching: each mistake with its key, its reason and its remedy, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedsearch.config import read_model_settings, read_settings, solver_rules
from schedsearch.config.rules import OUR_TRAINER, training
from schedsearch.config.solver_rules import solver_options, trained_by_flow
from schedsearch.files.problems import InvalidFileError
from schedsearch.settings import (
    BackboneSettings,
    DiffusionSettings,
    RecipeSettings,
    SolverSettings,
)

FLOW = "diffusion: {process: flow, time: sit}\n"


@pytest.fixture
def flow(edited: Callable[..., Path]) -> Callable[..., list[str]]:
    """Mistakes of the valid file with a line ``diffusion`` and pieces replaced."""

    def mistakes(diffusion: str, *pairs: tuple[str, str]) -> list[str]:
        more = [("data: {source", f"diffusion: {{{diffusion}}}\ndata: {{source")]
        path = edited(*more, WARM_START, *pairs)
        try:
            read_settings(path)
        except InvalidFileError as error:
            return [line.partition(": ")[2] for line in str(error).splitlines()]
        return []

    return mistakes


SOLVER = ("search: {", "solver: {name: flow_euler}\nsearch: {")
WARM_START = ("[full, D3-DiT]", "[full, D3-DiT@flow]")
NO_VARIANCE = ("num_classes: 10}", "num_classes: 10, learn_sigma: false}")


def test_a_flow_space_is_valid_and_states_what_was_left_out(
    edited: Callable[..., Path],
) -> None:
    path = edited(("data: {source", FLOW + "data: {source"), SOLVER, NO_VARIANCE, WARM_START)
    found = read_settings(path).diffusion
    assert found == DiffusionSettings(process="flow", time="sit", prediction="velocity")
    assert (found.betas, found.times, found.shift) == (None, "uniform", 1.0)


@pytest.mark.parametrize(
    ("given", "process", "betas", "prediction"),
    [
        ({}, "ddpm", "linear", "eps"),
        ({"betas": "vp"}, "vp", "vp", "eps"),
        ({"process": "vp"}, "vp", "vp", "eps"),
        ({"betas": "cosine", "prediction": "v"}, "ddpm", "cosine", "v"),
        ({"process": "flow", "time": "sigma"}, "flow", None, "velocity"),
        ({"process": "flow", "time": "sigma", "prediction": "x0"}, "flow", None, "x0"),
    ],
)
def test_the_process_is_derived_from_the_betas(
    given: dict[str, Any], process: str, betas: str | None, prediction: str
) -> None:
    found = DiffusionSettings(**given)
    assert (found.process, found.betas, found.prediction) == (process, betas, prediction)


@pytest.mark.parametrize(
    ("diffusion", "expected"),
    [
        ("process: flow", "diffusion.time: process: flow must say how the network is fed"),
        ("process: flow, time: sit, betas: linear", "diffusion.betas: flow matching has no betas"),
        ("process: flow, time: sit, prediction: v", "diffusion.prediction: v belongs to ddpm and"),
        ("process: ddpm, betas: vp", "diffusion.betas: vp are no betas of process: ddpm"),
        ("prediction: velocity", "diffusion.prediction: process: ddpm has no velocity; write v"),
        ("time: sit", "diffusion.time: belongs to flow matching, got 'sit'; remove the key, or"),
        ("shift: 3.0", "diffusion.shift: belongs to flow matching, got 3.0; remove the key"),
        ("process: flow, time: sti", "diffusion.time: must be sigma, sigma1000 or sit, got"),
    ],
)
def test_the_section_is_one_process(
    flow: Callable[..., list[str]], diffusion: str, expected: str
) -> None:
    (found,) = flow(diffusion, SOLVER, NO_VARIANCE)
    assert expected in found


def test_a_learned_variance_has_no_bound_on_a_flow() -> None:
    recipe = RecipeSettings(num_steps=10, batch_size=8, lr=1e-5)
    backbone, diffusion = BackboneSettings(name="DiT-S/2"), DiffusionSettings(process="flow")
    ((key, reason, remedy),) = training(recipe, backbone, diffusion, OUR_TRAINER)
    assert (key, remedy) == ("recipe.loss", "set it to mse")
    assert reason == (
        "auto trains the learned variance of a discrete process, but diffusion.process is flow"
    )


@pytest.mark.parametrize(
    ("process", "options", "expected"),
    [
        (
            "flow",
            {"name": "ddim"},
            "solver.name: ddim cannot run on the process flow; set it to flow_euler or flow_heun "
            "or sit_sde or dpm_solver, or diffusion.process to ddpm",
        ),
        (
            "vp",
            {"name": "sit_sde"},
            "solver.name: sit_sde cannot run on the process vp; set it to dpm_solver or "
            "euler_maruyama, or diffusion.process to flow",
        ),
        (
            "flow",
            {"name": "flow_heun", "num_steps": 25},
            "solver.num_steps: flow_heun makes two network calls per step, got 25 calls; take an "
            "even number",
        ),
        (
            "flow",
            {"name": "sit_sde", "num_steps": 1},
            "solver.num_steps: sit_sde needs a first and a last step, got 1 network call; take at "
            "least 2",
        ),
        (
            "flow",
            {"name": "flow_euler", "end_time": 1.0},
            "solver.end_time: flow_euler ends at the data, got 1; remove the key",
        ),
        (
            "flow",
            {"name": "flow_euler", "spacing": "trailing"},
            "solver.spacing: the times of flow matching are uniform before the shift, got "
            "trailing; remove the key",
        ),
        (
            "flow",
            {"name": "dpm_solver", "order": 3},
            "solver.order: dpm_solver on flow matching has order 1 or 2, got 3; set it to 2",
        ),
        (
            "flow",
            {"name": "dpm_solver", "method": "singlestep"},
            "solver.method: dpm_solver on flow matching is multistep, got singlestep; remove the "
            "key",
        ),
        (
            "ddpm",
            {"name": "ddim", "shift": 3.0},
            "solver.shift: belongs to flow matching, got 3; remove the key, or set "
            "diffusion.process to flow",
        ),
    ],
)
def test_solvers_and_processes_fit(process: Any, options: dict[str, Any], expected: str) -> None:
    time = "sit" if process == "flow" else None
    diffusion = DiffusionSettings(process=process, time=time)  # type: ignore[arg-type]
    found = [*solver_options(SolverSettings(**options), diffusion)]
    assert [f"{key}: {reason}; {remedy}" for key, reason, remedy in found] == [expected]


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (
            "cfg_scale: 2.0, cfg_interval: [700, 100]",
            "must be two rising times in [0, 1000], got 700 and",
        ),
        ("cfg_interval: [100, 700]", "guidance is off, got 100 to 700; set cfg_scale above 1"),
        ("cfg_scale: 2.0, cfg_interval: [0, 1000]", "0 to 1000 is the whole clock; remove"),
        ("cfg_scale: 2.0, cfg_interval: [100, 700]", "plans reuse what an earlier call made"),
    ],
)
def test_guidance_in_an_interval(
    flow: Callable[..., list[str]], solver: str, expected: str
) -> None:
    section = ("search: {", f"solver: {{name: flow_euler, {solver}}}\nsearch: {{")
    (found,) = flow("process: flow, time: sit", section, NO_VARIANCE)
    assert f"solver.cfg_interval: {expected}" in found


def test_what_remembers_a_batch_cannot_follow_an_interval(flow: Callable[..., list[str]]) -> None:
    more = (
        "plan: null\nsolver: {name: flow_euler, cfg_scale: 2.0, cfg_interval: [100, 700]}\n"
        "rivals:\n"
        "  cache: {kind: block_cache, every: [2]}\n"
        "  fitted: {kind: fitted_steps, num_steps: [5]}\n"
        "  fewer: {kind: steps, num_steps: [5]}\n"
        "  tuned: {kind: schedule, schedules: [D3-DiT@flow], recipe: {start: adapters}}\n"
    )
    found = flow("process: flow, time: sit", ("search: {", more + "search: {"), NO_VARIANCE)
    assert "rivals.cache.kind: block_cache cannot follow solver.cfg_interval" in found[0]
    assert "rivals.fitted.kind: fitted_steps cannot follow solver.cfg_interval" in found[1]
    assert "rivals.tuned.kind: adapters cannot follow solver.cfg_interval" in found[2]
    assert len(found) == 3


def test_a_plan_for_half_a_step_of_heun(flow: Callable[..., list[str]]) -> None:
    more = "plan: {num_steps: [5]}\nsolver: {name: flow_heun, num_steps: 8}\n"
    (found,) = flow("process: flow, time: sit", ("search: {", more + "search: {"), NO_VARIANCE)
    assert "plan.num_steps[0]: flow_heun makes two network calls per step, got 5 calls" in found


def test_a_network_of_the_noise_and_dpm_solver() -> None:
    diffusion = DiffusionSettings(process="flow", time="sit", prediction="eps")
    ((key, reason, _),) = solver_options(SolverSettings(name="dpm_solver"), diffusion)
    assert key == "solver.name"
    assert "starts at sigma = 0.999, where a prediction of eps says too little" in reason
    assert not [*solver_options(SolverSettings(name="flow_heun"), diffusion)]


def test_a_sit_needs_flow_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_rules, "shipped_family", lambda backbone: backbone.family)
    sit = BackboneSettings(family="sit")
    ((key, reason, _),) = trained_by_flow(sit, DiffusionSettings())
    assert (key, reason) == ("diffusion.process", "a SiT is trained by flow matching, got ddpm")
    assert not [*trained_by_flow(sit, DiffusionSettings(process="flow", time="sigma"))]
    assert not [*trained_by_flow(BackboneSettings(family="dit"), DiffusionSettings())]


def test_the_check_imports_no_torch(edited: Callable[..., Path]) -> None:
    path = edited(("data: {source", FLOW + "data: {source"), SOLVER, NO_VARIANCE, WARM_START)
    code = (
        "import sys; from schedsearch.config import read_settings; "
        f"read_settings({str(path)!r}); print(sorted({{'torch', 'diffusers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_backbone_alone_has_the_default_process(edited: Callable[..., Path]) -> None:
    path = edited(("data: {source", FLOW + "data: {source"), SOLVER, NO_VARIANCE, WARM_START)
    assert read_model_settings(path).diffusion.process == "flow"
