"""What ``import schedsearch`` offers for use: a backbone from a file, and samples from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.checkpoint import load_backbone_from
from schedsearch.config import read_model_settings
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.settings import DiffusionSettings, SolverSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.protocols import Backbone
    from schedsearch.schedule import ExitSchedule


def load_backbone(
    space: str | Path | Mapping[str, Any], *, device: torch.device | str = "cpu"
) -> Backbone:
    """Build a network and load its weights.

    Args:
        space: A search space file, the name of one that ships, or its ``backbone`` section as
            a dict. Only that section is read.
        device: Where the weights go.

    Returns:
        The network in eval mode; ``net(x, t, y, exit_depth=...)``.

    Raises:
        ConfigError: If the section is wrong or the weights do not fit.
    """
    settings = read_model_settings(dict(space) if isinstance(space, Mapping) else space)
    return cast("Backbone", load_backbone_from(settings.backbone, device))


def sample(
    net: Backbone,
    schedule: ExitSchedule,
    *,
    solver: str = "ddim",
    num_steps: int = 50,
    num: int = 16,
    seed: int = 0,
    labels: Tensor | None = None,
    noise: Tensor | None = None,
    cfg_scale: float = 1.0,
    spacing: str = "linspace",
    batch_size: int = 64,
) -> Tensor:
    """Sample images with an exit schedule.

    Args:
        net: The network, in eval mode, on the device to use.
        schedule: Blocks to run per tenth of diffusion time.
        solver: ``ddim`` or ``dpm_solver`` (DPM-Solver++(2M)).
        num_steps: Network calls per image.
        num: Number of images; ignored when ``noise`` is given.
        seed: Seed of the starting noise; image i is the same for every ``num``.
        labels: Classes, (N,) int64; None takes all classes in turn.
        noise: Starting noise, (N, C, H, W); None draws it from ``seed``.
        cfg_scale: Classifier-free guidance; 1 is off.
        spacing: ``linspace``, ``leading`` or ``trailing``.
        batch_size: Images at once.

    Returns:
        The solver's output, (N, C, H, W) float32 on the CPU, in the range of the training
        data ([-1, 1] for images) and not clipped.

    Raises:
        ValueError: If a depth of the schedule exceeds the network's.
    """
    if max(schedule.depths) > net.num_exit_blocks:
        raise ValueError(
            f"The schedule runs up to {max(schedule.depths)} blocks, but the network has "
            f"{net.num_exit_blocks}. Scale it with schedsearch.hand_made.scale_schedule."
        )
    settings = SolverSettings(
        name=cast("Any", solver),
        num_steps=num_steps,
        cfg_scale=cfg_scale,
        spacing=cast("Any", spacing),
    )
    start = starting_noise(seed, num, net.in_shape) if noise is None else noise
    classes = balanced_labels(len(start), net.num_classes) if labels is None else labels
    return generate(
        net,
        schedule,
        build_solver(settings, build_process(DiffusionSettings())),
        start,
        classes,
        cfg_scale,
        batch_size,
    )
