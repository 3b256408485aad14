"""What ``import schedsearch`` offers for use: a backbone from a file, and samples from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.config import read_model_settings, read_sections
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.settings import DiffusionSettings, SolverSettings

_DIFFUSION = "_schedsearch_diffusion"
"""Attribute of a loaded network: the process that it was trained with."""

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.protocols import Backbone
    from schedsearch.schedules.exit_schedule import ExitSchedule


def load_backbone(
    space: str | Path | Mapping[str, Any], *, device: torch.device | str = "cpu"
) -> Backbone:
    """Build a network and load its weights.

    Args:
        space: A search space file, the name of one that ships, or its ``backbone`` section as
            a dict. Of a whole space, :func:`sample` also remembers the section ``diffusion``.
        device: Where the weights go.

    Returns:
        The network in eval mode; ``net(x, t, y, exit_depth=...)``.

    Raises:
        ConfigError: If the section is wrong or the weights do not fit.
    """
    settings = read_model_settings(dict(space) if isinstance(space, Mapping) else space)
    net = load_backbone_from(settings.backbone, device)
    setattr(net, _DIFFUSION, settings.diffusion)
    return cast("Backbone", net)


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
    batch_size: int = 64,
    diffusion: Mapping[str, Any] | None = None,
    **solver_options: Any,
) -> Tensor:
    """Sample images with an exit schedule.

    Args:
        net: The network, in eval mode, on the device to use.
        schedule: Blocks to run per tenth of diffusion time.
        solver: ``ddpm``, ``ddim``, ``dpm_solver`` or ``euler_maruyama``.
        num_steps: Network calls per image.
        num: Number of images; ignored when ``noise`` is given.
        seed: Seed of the starting noise and of the solver's; image i is the same for every
            ``num``.
        labels: Classes, (N,) int64; None takes all classes in turn.
        noise: Starting noise, (N, C, H, W); None draws it from ``seed``.
        cfg_scale: Classifier-free guidance; 1 is off.
        batch_size: Images at once.
        diffusion: Section ``diffusion`` of a search space, which says how the network was
            trained; None takes that of the space it was loaded from, else the defaults.
        **solver_options: Other keys of the section ``solver``, for example ``spacing``.

    Returns:
        The solver's output, (N, C, H, W) float32 on the CPU, in the range of the training
        data ([-1, 1] for images) and not clipped.

    Raises:
        ConfigError: If the options are wrong, or the network lacks the channels or the label
            for "no class" that guidance needs.
        ValueError: If a depth of the schedule exceeds the network's.
    """
    if max(schedule.depths) > net.num_exit_blocks:
        raise ValueError(
            f"The schedule runs up to {max(schedule.depths)} blocks, but the network has "
            f"{net.num_exit_blocks}. Scale it with schedsearch.schedules.hand_made.scale_schedule."
        )
    own: DiffusionSettings = getattr(net, _DIFFUSION, DiffusionSettings())
    sections = read_sections(
        {
            "solver": {
                "name": solver,
                "num_steps": num_steps,
                "cfg_scale": float(cfg_scale),
                **solver_options,
            },
            "diffusion": dataclasses.asdict(own) if diffusion is None else dict(diffusion),
        }
    )
    settings: SolverSettings = sections["solver"]
    start = starting_noise(seed, num, net.in_shape) if noise is None else noise
    classes = balanced_labels(len(start), net.num_classes) if labels is None else labels
    return generate(
        net,
        schedule,
        build_solver(
            settings,
            build_process(sections["diffusion"]),
            learned_variance=learns_variance(net),
        ),
        start,
        classes,
        batch_size,
        cfg_scale=settings.cfg_scale,
        cfg_channels=settings.cfg_channels,
        seed=seed,
    )
