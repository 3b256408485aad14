"""Method files of every kind, loaded and sampled; damaged ones refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import schedsearch
from schedsearch.backbones.pruning import keep_blocks, narrow
from schedsearch.backbones.weights.checkpoint import fingerprint, save_weights
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.diffusion.solvers.fitted import FittedSolver
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.kinds import _BUILDERS
from schedsearch.methods.loading import LoadedMethod, check_weights, load_method
from schedsearch.methods.method_file import MethodFile, write_method_file
from schedsearch.methods.networks import build_network
from schedsearch.methods.solver import build_solver_for, solver_for
from schedsearch.protocols import Method
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.schedule_file import ScheduledBackbone
from schedsearch.settings import DiffusionSettings, SolverSettings
from tests.backbones.small_models import DEPTH, make_dit, make_uvit
from tests.methods.exits.exit_networks import with_module

PLAN = ["11111", "01011", "00000"]
NUMBERS: dict[str, dict[str, Any]] = {
    "schedule": {"depths": [5, 4, 3, 2, 1]},
    "steps": {},
    "fitted_steps": {
        "output": "data",
        "times": [950.0, 650.0, 350.0],
        "coefficients": [[0.9, 0.1, 0.0], [0.8, 0.3, -0.1], [0.25, 1.5, -0.5]],
    },
    "uncertainty": {"threshold": 0.7, "decide": "batch", "patience": 1},
    "similarity": {"threshold": 0.8, "pair": "separate"},
    "tome": {"ratio": 0.5, "blocks": "F2", "parts": ["attention", "mlp"], "random": True},
    "block_cache": {"parts": ["attention"], "recompute": PLAN, "scale_shift": True},
    "residual_cache": {"first": 1, "signal": "input", "threshold": 9.0, "rescale": [2.0, 0]},
    "stitch": {"share": 0.5},
    "plan": {"steps": ["F", "R1", "X3"]},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "uncertainty": {"uem": {"shared": True}},
    "stitch": {"small": {"keep": [0, 4]}},
}

kinds = pytest.mark.parametrize("kind", sorted(_BUILDERS))


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """A method file of a kind with its weights."""
    net = make_dit()
    if kind == "block_cache":
        torch.manual_seed(4)
        cells = {"scale_shift": torch.randn(3, DEPTH, 2, net.width)}
        save_file(cells, folder / "own.safetensors")
    elif kind == "uncertainty":
        save_weights(with_module(net, shared=True), folder / "own.safetensors")
    elif kind == "stitch":
        save_weights(keep_blocks(net, [0, 4]), folder / "own.safetensors")
    content: dict[str, Any] = {
        "name": "mine",
        "kind": kind,
        "backbone": ScheduledBackbone(family="dit", num_exit_blocks=DEPTH),
        "num_steps": 3 if kind == "block_cache" else None,
        "numbers": NUMBERS[kind],
        "network": NETWORKS.get(kind, {}),
        "weights": "own.safetensors" if (folder / "own.safetensors").exists() else None,
    }
    write_method_file(folder / "method.yaml", MethodFile(**{**content, **changes}))
    return folder / "method.yaml"


def sample(
    net: Any, method: Method, num_steps: int = 3, cfg_scale: float = 1.0, num: int = 3
) -> Tensor:
    times = [950.0 - 900 * step / num_steps for step in range(num_steps)]
    solver = MultistepDPMSolver(DDPMProcess(), times)
    noise, labels = starting_noise(1, num, net.in_shape), balanced_labels(num, net.num_classes)
    return generate(net, method, solver, noise, labels, 2, cfg_scale=cfg_scale)


# ---- whole runs ---------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_every_kind_samples(tmp_path: Path, kind: str, cfg_scale: float) -> None:
    loaded = load_method(write(tmp_path, kind))
    net = loaded.network(make_dit().eval())
    images = sample(net, loaded, cfg_scale=cfg_scale)
    assert images.shape == (3, *net.in_shape)
    assert images.isfinite().all()
    assert torch.equal(sample(net, loaded, cfg_scale=cfg_scale), images)
    full = sample(make_dit().eval(), ExitSchedule.flat(DEPTH), cfg_scale=cfg_scale)
    as_it_is = kind in {"steps", "fitted_steps"}
    assert torch.equal(images, full) == as_it_is, "only these call it as it is"
    assert loaded.is_dynamic == (kind in {"uncertainty", "similarity", "residual_cache"})
    assert loaded.changes_network == (kind in NETWORKS)


def test_the_kinds_of_a_file_are_those_that_can_be_built() -> None:
    assert set(NUMBERS) == set(_BUILDERS)


@pytest.mark.parametrize("kind", sorted(set(_BUILDERS) - {"fitted_steps"}))
def test_another_number_of_steps_is_refused(tmp_path: Path, kind: str) -> None:
    loaded = load_method(write(tmp_path, kind, num_steps=3))
    net = loaded.network(make_dit().eval())
    with pytest.raises(ConfigError) as caught:
        sample(net, loaded, num_steps=4)
    assert str(caught.value) == (
        f"{tmp_path / 'method.yaml'}: the method is for 3 solver steps, but the solver takes 4. "
        "Use as many, or calibrate it again."
    )


def test_a_plan_for_other_steps_or_blocks_is_refused_by_itself(tmp_path: Path) -> None:
    loaded = load_method(write(tmp_path, "block_cache", num_steps=None))
    with pytest.raises(ConfigError, match="plan is for 3 solver steps, but the solver takes 4"):
        sample(make_dit().eval(), loaded, num_steps=4)


def test_fewer_steps_change_the_solver_and_no_other_kind_does(tmp_path: Path) -> None:
    solver = SolverSettings(name="dpm_solver", num_steps=20)
    fewer = load_method(write(tmp_path, "steps", num_steps=7))
    assert solver_for(fewer.file, solver) == replace(solver, num_steps=7)
    assert solver_for(load_method(write(tmp_path, "block_cache")).file, solver) == solver
    assert solver_for(load_method(write(tmp_path, "steps")).file, solver) == solver


def test_fitted_steps_run_with_their_own_solver_only(tmp_path: Path) -> None:
    loaded = load_method(write(tmp_path, "fitted_steps", solver="dpm_solver", num_steps=20))
    settings, process = SolverSettings(name="dpm_solver", num_steps=20), DDPMProcess()
    solver = build_solver_for(loaded.file, settings, process)
    assert isinstance(solver, FittedSolver)
    assert solver.times == (950.0, 650.0, 350.0)
    assert solver.coefficients == tuple(map(tuple, NUMBERS["fitted_steps"]["coefficients"]))
    assert solver.output == "data"
    net = make_dit().eval()
    noise, labels = starting_noise(1, 3, net.in_shape), balanced_labels(3, net.num_classes)
    assert generate(net, loaded, solver, noise, labels, 2).isfinite().all()
    for times in ([950.0, 650.0], [950.0, 650.0, 340.0]):
        with pytest.raises(ConfigError, match="so they run with their own solver only"):
            loaded.begin(net, times, guided=False)
    with pytest.raises(ConfigError, match=r"fitted with cfg_scale 1, but got 1\.5; use the same"):
        build_solver_for(loaded.file, replace(settings, cfg_scale=1.5), process)
    with pytest.raises(ConfigError, match=r"same guidance in all calls, but solver\.cfg_interval"):
        build_solver_for(loaded.file, replace(settings, cfg_interval=(1.0, 9.0)), process)


# ---- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [{"keep": [1, 3]}, {"heads": 2, "hidden": 40}, {}])
def test_the_network_of_a_file_has_its_weights(tmp_path: Path, network: dict[str, Any]) -> None:
    made: Any = make_dit().eval()
    if "keep" in network:
        made = keep_blocks(made, network["keep"])
    elif network:
        made = narrow(made, 2, 40, None)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.9)
    save_weights(made, tmp_path / "w.safetensors")
    numbers = {"depths": [made.num_exit_blocks] * 10}
    file = write(tmp_path, "schedule", numbers=numbers, network=network, weights="w.safetensors")
    loaded, flat = load_method(file), ExitSchedule.flat(made.num_exit_blocks)
    assert loaded.changes_network
    net = loaded.network(make_dit())
    assert torch.equal(sample(net, loaded), sample(made, flat))
    for other in (make_dit(), make_uvit()):
        with pytest.raises(ConfigError, match=r"needs its own network\. Build it with"):
            sample(other.eval(), loaded)
    options: dict[str, Any] = {"solver": "ddim", "num_steps": 3, "num": 3}
    expected = schedsearch.sample(made, flat, **options)
    for given in (make_dit().eval(), net):
        assert torch.equal(schedsearch.sample(given, loaded, **options), expected)
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(CheckpointError):
        load_method(file).network(make_dit())


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_plain_backbone_does_not_run_such_a_method(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"needs its own network"):
        sample(make_dit().eval(), load_method(write(tmp_path, kind)))


@pytest.mark.parametrize("kind", ["residual_cache", "similarity", "stitch", "plan", "tome"])
def test_numbers_that_were_fitted_to_weights_belong_to_them(tmp_path: Path, kind: str) -> None:
    base, other = make_dit().eval(), make_dit().eval()
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    bound = ScheduledBackbone(family="dit", num_exit_blocks=DEPTH, fingerprint=fingerprint(base))
    loaded = load_method(write(tmp_path, kind, backbone=bound))
    check_weights(loaded, base)
    if kind == "tome":
        check_weights(loaded, other)
        return
    with pytest.raises(ConfigError, match="the method was made on other weights than these"):
        check_weights(loaded, other)


def test_a_made_network_keeps_what_the_backbone_was_trained_with(tmp_path: Path) -> None:
    base: Any = make_dit().eval()
    base._schedsearch_diffusion = DiffusionSettings(prediction="v")
    net: Any = load_method(write(tmp_path, "stitch")).network(base)
    assert net._schedsearch_diffusion.prediction == "v"


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    loaded = load_method(write(tmp_path, "tome"))
    with pytest.raises(ConfigError, match="is for 5 exit blocks, but the backbone has 4; use one"):
        loaded.network(make_uvit())
    base = make_dit()
    assert loaded.network(base) is base


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"kept": [0]}, "network.kept: unknown key"),
        ({"keep": "all"}, "network.keep: must be a list, got the text 'all'"),
        ({"keep": [0.5]}, r"network.keep\[0\]: must be an integer, got 0.5"),
        ({"keep": [0, 9]}, r"increasing indices in 0..4, got \[0, 9\]"),
        ({"keep": []}, "increasing indices"),
        ({"heads": 2}, "takes keep, uem, adapters, small, or heads and hidden, but has heads"),
        (
            {"heads": 2, "keep": [0]},
            "takes keep, uem, adapters, small, or heads and hidden, but has heads, ",
        ),
        ({"heads": 9, "hidden": 8}, "keeps 1..4 heads and 1..128 MLP units"),
        ({"uem": {"shard": True}}, "network.uem.shard: unknown key"),
        ({"small": {"keep": [7]}}, "increasing indices"),
    ],
)
def test_networks_that_cannot_be_built(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_network(network, make_dit(), None)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_is_a_value(tmp_path: Path) -> None:
    one, two = (load_method(str(write(tmp_path, "tome"))) for _ in range(2))
    assert one == two
    assert isinstance(one, LoadedMethod)
    assert one.path == tmp_path / "method.yaml"
