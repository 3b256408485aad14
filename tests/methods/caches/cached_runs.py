"""Small networks, solvers and sampling runs for the tests of caches and token merging."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.backbones.uvit import UViT
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers import DDPM, MultistepDPMSolver
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.run import MethodRun
from schedsearch.protocols import Method, Solver
from schedsearch.schedules.exit_schedule import ExitSchedule
from tests.backbones.small_models import make_dit, make_uvit

NETS = {
    "dit": make_dit(learn_sigma=False).eval(),
    "uvit": make_uvit(num_classes=5, null_class=True).eval(),
}
"""Networks with the label "no class"; a DiT of 5 blocks, a U-ViT of 9."""

TIMES = tuple(range(900, 540, -40))
"""Nine steps; longer ones change a random network's tokens too much for a cache."""

SOLVERS: dict[str, Solver] = {
    "dpm_solver": MultistepDPMSolver(DDPMProcess(), TIMES, order=2),
    "ddpm": DDPM(DDPMProcess(), TIMES, "fixed_small"),
    "learned_ddpm": DDPM(DDPMProcess(), TIMES, "learned"),
}


RESIDUAL_THRESHOLDS = {"dit": 0.755, "uvit": 0.3}
"""FBCache with these reuses at some steps, at some of them only for some samples."""


def threshold_of(net: DiT | UViT) -> float:
    """The threshold of FBCache for one of the networks."""
    return RESIDUAL_THRESHOLDS["dit" if isinstance(net, DiT) else "uvit"]


INPUT_THRESHOLD = 0.4075
"""The same for TeaCache, on both networks."""


def sample(
    method: Method,
    net: DiT | UViT,
    *,
    num: int = 3,
    cfg_scale: float = 1.0,
    solver: str = "dpm_solver",
    seed: int = 0,
) -> tuple[Tensor, MethodRun]:
    """Sample one batch with the tool's own sampler; return images and the method's run."""
    runs: list = []
    noise = starting_noise(seed, num, net.in_shape)
    labels = balanced_labels(num, net.num_classes)
    images = generate(
        net, method, SOLVERS[solver], noise, labels, num, cfg_scale=cfg_scale, observe=runs.append
    )
    return images, runs[0]


def sample_plain(net: DiT | UViT, **options: object) -> Tensor:
    """Sample at full depth with one call of the network per step."""
    return sample(ExitSchedule.flat(net.num_exit_blocks), net, **options)[0]


def denoiser(method: Method, net: DiT | UViT, num: int, cfg_scale: float = 1.0) -> GuidedDenoiser:
    """Start a run that the test calls step by step."""
    labels = balanced_labels(num, net.num_classes)
    return GuidedDenoiser(net, method, SOLVERS["dpm_solver"], labels, cfg_scale=cfg_scale)


def trajectory(method: Method, net: DiT | UViT, seed: int):
    """Start a trajectory that the test advances step by step."""
    noise = starting_noise(seed, 2, net.in_shape)
    return SOLVERS["dpm_solver"].trajectory(denoiser(method, net, 2), noise)


def constant_branches(net: DiT | UViT) -> DiT | UViT:
    """A copy whose sub-blocks add the same whatever the input, time and label."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "block" not in name:
                continue
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight", "adaLN_modulation.1.weight")):
                weight.zero_()
            if name.endswith("skip_linear.weight"):
                weight.copy_(torch.eye(*weight.shape))  # ignores the long skip
    return net


def watch(net: DiT | UViT, part: str, note: Callable[[int, Tensor], None]) -> list:
    """Call ``note(block, input)`` whenever an ``attn`` or ``mlp`` runs; returns the handles."""
    if isinstance(net, DiT):
        blocks = list(net.blocks)
    else:
        blocks = [*net.in_blocks, net.mid_block, *net.out_blocks]

    def hook(index: int):
        return lambda module, inputs, output: note(index, inputs[0])

    return [
        getattr(block, part).register_forward_hook(hook(index))
        for index, block in enumerate(blocks)
    ]
