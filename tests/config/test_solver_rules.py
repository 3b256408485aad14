"""Rules of the solver section: each mistake with its key, its reason and its remedy."""

import subprocess
import sys
from typing import Any

import pytest
from rival_spaces import problems_of

from schedsearch.config import read_sections
from schedsearch.config.solver_rules import guidance, solver_options
from schedsearch.files.problems import InvalidFileError
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings


def mistakes(
    betas: str = "linear", backbone: BackboneSettings | None = None, **options: Any
) -> list[str]:
    solver, diffusion = SolverSettings(**options), DiffusionSettings(betas=betas)  # type: ignore[arg-type]
    found = [*solver_options(solver, diffusion, backbone)]
    if backbone is not None:
        found += guidance(backbone, solver)
    return [f"{key}: {reason}; {remedy}" for key, reason, remedy in found]


@pytest.mark.parametrize("scale", [0, 0.4, -1])
def test_guidance_by_the_count_of_u_vit_is_explained(scale: float) -> None:
    said = rf"solver\.cfg_scale: must be >= 1\.0, got {scale:g}; 1 is off.*its 0\.4 is 1\.4 here"
    with pytest.raises(InvalidFileError, match=said):
        read_sections({"solver": {"cfg_scale": scale}})


@pytest.mark.parametrize("key", ["latency_repeats", "confirm_seeds"])
def test_counts_that_no_run_could_finish(key: str) -> None:
    with pytest.raises(InvalidFileError, match=rf"evaluation\.{key}: must be <= 10000"):
        read_sections({"evaluation": {key: 10**12}})


@pytest.mark.parametrize(
    ("betas", "options"),
    [
        ("linear", {}),
        ("linear", {"name": "ddpm", "variance": "learned", "num_steps": 1000}),
        ("cosine", {"name": "ddim", "eta": 0.5, "spacing": "trailing"}),
        ("linear", {"name": "dpm_solver", "num_steps": 999, "order": 3}),
        ("linear", {"name": "dpm_solver", "num_steps": 1000, "spacing": "trailing"}),
        ("linear", {"name": "dpm_solver", "method": "singlestep", "order": 3, "num_steps": 4}),
        ("vp", {"name": "dpm_solver", "method": "singlestep", "order": 3, "end_time": 1.0}),
        ("vp", {"name": "dpm_solver", "algorithm": "dpmsolver", "num_steps": 1000}),
        ("vp", {"name": "euler_maruyama", "num_steps": 1000, "end_time": 0.5}),
    ],
)
def test_what_fits_is_accepted(betas: str, options: dict[str, Any]) -> None:
    assert mistakes(betas, **options) == []


@pytest.mark.parametrize(
    ("betas", "options", "expected"),
    [
        (
            "vp",
            {"name": "ddim"},
            "solver.name: ddim cannot run on the process vp; set it to dpm_solver or "
            "euler_maruyama, or diffusion.process to ddpm",
        ),
        (
            "cosine",
            {"name": "euler_maruyama"},
            "solver.name: euler_maruyama cannot run on the process ddpm; set it to ddpm or ddim "
            "or dpm_solver, or diffusion.process to vp",
        ),
        (
            "linear",
            {"name": "ddpm", "eta": 0.5},
            "solver.eta: is an option of ddim, got 0.5 with ddpm; remove the key, or set name "
            "to ddim",
        ),
        (
            "linear",
            {"name": "ddim", "order": 3},
            "solver.order: is an option of dpm_solver, got 3 with ddim; remove the key, or set "
            "name to dpm_solver",
        ),
        (
            "linear",
            {"name": "dpm_solver", "variance": "fixed_large"},
            "solver.variance: is an option of ddpm, got 'fixed_large' with dpm_solver; remove "
            "the key, or set name to ddpm",
        ),
        (
            "vp",
            {"name": "euler_maruyama", "spacing": "trailing"},
            "solver.spacing: euler_maruyama with betas: vp always takes equal steps in time, got "
            "'trailing'; remove the key",
        ),
        (
            "linear",
            {"name": "dpm_solver", "method": "singlestep", "spacing": "leading"},
            "solver.spacing: singlestep dpm_solver always takes equal steps in logSNR, got "
            "'leading'; remove the key",
        ),
        (
            "linear",
            {"name": "dpm_solver", "end_time": 1.0},
            "solver.end_time: belongs to the continuous process, got 1 with timesteps; remove "
            "the key, or set diffusion.betas to vp",
        ),
        (
            "vp",
            {"name": "dpm_solver", "method": "singlestep", "order": 3, "num_steps": 3},
            "solver.num_steps: singlestep dpm_solver of order 3 needs at least 4 network calls, "
            "got 3; take more steps or a lower order",
        ),
        (
            "linear",
            {"name": "dpm_solver", "num_steps": 1000},
            "solver.num_steps: dpmsolver++ with linspace spacing takes at most 999 steps on 1000 "
            "timesteps, got 1000; take fewer steps, or use ddim",
        ),
        (
            "linear",
            {
                "name": "dpm_solver",
                "algorithm": "dpmsolver",
                "spacing": "trailing",
                "num_steps": 667,
            },
            "solver.num_steps: dpmsolver with trailing spacing takes at most 666 steps on 1000 "
            "timesteps, got 667; take fewer steps, or use ddim",
        ),
    ],
)
def test_what_does_not_fit_is_named(betas: str, options: dict[str, Any], expected: str) -> None:
    assert mistakes(betas, **options) == [expected]


def test_all_mistakes_are_found_at_once() -> None:
    found = mistakes(name="ddpm", eta=0.1, method="singlestep", algorithm="dpmsolver", end_time=1)
    assert [line.split(": ")[0] for line in found] == [
        "solver.eta",
        "solver.method",
        "solver.algorithm",
        "solver.end_time",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cfg_channels": 3}, []),
        ({"cfg_channels": 4}, []),
        (
            {"cfg_channels": 5},
            [
                "solver.cfg_channels: the backbone has 4 channels, got 5; remove the "
                "key to guide all of them"
            ],
        ),
        (
            {"name": "ddpm", "variance": "learned"},
            [
                "solver.variance: learned needs a backbone that predicts variances "
                "(learn_sigma); set it to auto, fixed_small or fixed_large"
            ],
        ),
    ],
)
def test_outputs_of_the_network(options: dict[str, Any], expected: list[str]) -> None:
    backbone = BackboneSettings(name="DiT-S/2", config={"learn_sigma": False})
    assert mistakes(backbone=backbone, **options) == expected
    custom = BackboneSettings(family="my_lab:Net")  # only the class itself can tell
    assert mistakes(backbone=custom, **options) == []


def test_rules_import_neither_torch_nor_diffusers() -> None:
    code = (
        "import sys, schedsearch.config.solver_rules; "
        "print(sorted({'torch', 'diffusers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("num_steps", [3, 30])
def test_plans_are_for_fewer_steps_than_the_solver_takes(num_steps: int) -> None:
    ((key, text),) = problems_of({}, plan={"num_steps": [2, num_steps]})
    assert key == "plan.num_steps[1]"
    assert f"must be below the solver's 3 steps, got {num_steps}; remove it" in text
