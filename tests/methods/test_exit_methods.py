"""Dynamic exits as methods: whole runs, the work they leave out, what they refuse."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.ddpm import DDPM
from schedsearch.diffusion.solvers.dpm_solver import MultistepDPMSolver
from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from schedsearch.protocols import ObservedCall
from tests.methods.exits.exit_networks import (
    NETS,
    TIMES,
    call,
    inputs,
    judged,
    kinds,
    mixed,
    nets,
    with_module,
)

# ---- work that is not done ----------------------------------------------------------------------


@nets
def test_blocks_and_head_run_only_on_the_samples_that_need_them(name: str) -> None:
    net, batch = copy.deepcopy(judged(name)), inputs(NETS[name])
    method = mixed(UncertaintyExit, net, batch)
    inner = net.net
    blocks = inner.blocks if name == "dit" else [*inner.in_blocks, inner.mid_block]
    head = inner.final_layer.linear if name == "dit" else inner.decoder_pred
    rows: list[int] = []
    headed: list[int] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    head.register_forward_pre_hook(lambda _, given: headed.append(len(given[0])))
    _, counted = call(method, net, batch)
    assert sum(headed) == 9
    assert len(headed) == len(counted.unique())
    if name == "dit":
        assert rows == [int((counted > i).sum()) for i in range(len(rows))]
        assert sum(rows) == counted.sum()
    else:
        assert rows == [9] * 5


# ---- as methods ---------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", ["dit", "labelled uvit"])
@pytest.mark.parametrize("solver_name", ["multistep", "ddpm"])
def test_whole_runs(kind: Any, n: int, guided: bool, name: str, solver_name: str) -> None:
    net = judged(name)
    channels = net.in_shape[0]
    process = DDPMProcess()
    solver: Any = (
        MultistepDPMSolver(process, TIMES)
        if solver_name == "multistep"
        else DDPM(process, TIMES, "fixed_small")
    )
    x, _, y = inputs(NETS[name], n)
    method = mixed(kind, net, inputs(NETS[name]))

    def sample() -> tuple[Tensor, Any]:
        generator = torch.Generator().manual_seed(2)
        scale = 2.0 if guided else 1.0
        denoiser = GuidedDenoiser(net, method, solver, y.clamp(max=4), cfg_scale=scale)
        noise = torch.randn(n, channels, 8, 8, generator=generator)
        with torch.no_grad():
            image = solver.sample(
                denoiser, noise, lambda: torch.randn(noise.shape, generator=generator)
            )
        return image, denoiser.call

    assert y is not None
    image, run = sample()
    assert image.shape == x.shape
    assert image.dtype == torch.float32
    assert image.isfinite().all()
    assert not image.requires_grad
    again, second = sample()
    assert torch.equal(image, again)
    assert isinstance(run, ObservedCall)
    assert second is not run
    assert [len(blocks) for blocks in run.blocks] == [n * (1 + guided)] * 4
    assert run.held_bytes() == 0


@kinds
@nets
def test_bfloat16(kind: Any, name: str) -> None:
    net, (x, t, y) = copy.deepcopy(judged(name)).bfloat16(), inputs(NETS[name])
    batch = (x.bfloat16(), t, y)
    found, blocks = call(mixed(kind, net, batch), net, batch)
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()
    assert found.shape[2:] == x.shape[2:]
    assert len(blocks.unique()) >= 2


@kinds
def test_a_method_is_a_plain_value(kind: Any) -> None:
    method = kind(threshold=0.3, decide="batch", pair="separate", exits="all", min_blocks=3)
    assert pickle.loads(pickle.dumps(method)) == method
    assert hash(copy.deepcopy(method)) == hash(method)
    with pytest.raises(ConfigError, match="threshold must be a number, got nan"):
        kind(threshold=float("nan"))


@kinds
def test_networks_that_do_not_fit(kind: Any) -> None:
    net = judged("dit")
    with pytest.raises(ConfigError, match=r"min_blocks must lie in 1\.\.5, .* got 6"):
        kind(threshold=0.3, min_blocks=6).begin(net, (1.0,), guided=False)
    with pytest.raises(ConfigError, match="min_blocks must be at least 2"):
        SimilarityExit(threshold=0.3, min_blocks=1)
    with pytest.raises(ConfigError, match=r"this DiT has none. Train one with"):
        UncertaintyExit(threshold=0.3).begin(NETS["dit"], (1.0,), guided=False)
    with pytest.raises(ConfigError, match="trained for 5 exits, and the method has 9"):
        UncertaintyExit(threshold=0.3, exits="all").begin(judged("uvit"), (1.0,), guided=False)
    code = with_module(NETS["dit"], variant="code", time=False)
    with pytest.raises(ConfigError, match="trained with variant code; set variant to it"):
        UncertaintyExit(threshold=0.3).begin(code, (1.0,), guided=False)
