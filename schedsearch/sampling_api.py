"""The public sampling functions: load a backbone and sample images from it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.weights.checkpoint import load_backbone_from
from schedsearch.backbones.weights.claims import check_claims
from schedsearch.backbones.wrapped import WrappedBackbone
from schedsearch.config import read_model_settings, read_sections
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.sampling import (
    balanced_labels,
    generate,
    require_finite,
    starting_noise,
)
from schedsearch.exceptions import ConfigError
from schedsearch.memory import require_memory, within_memory
from schedsearch.methods.loading import LoadedMethod, check_weights
from schedsearch.methods.method_file import check_solver
from schedsearch.methods.solver import build_solver_for
from schedsearch.sampling_arguments import (
    check_counts,
    check_device,
    check_noise,
    check_objects,
    check_scale,
    checked_labels,
)
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import DiffusionSettings, SolverSettings

_DIFFUSION = "_schedsearch_diffusion"
"""Attribute of a loaded network: settings of the process it was trained with."""

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.protocols import Backbone, Method, Solver


def load_backbone(
    space: str | Path | Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Backbone:
    """Build a network and load its weights.

    Args:
        space: A search space file, the name of a shipped space, or a ``backbone`` section as a
            dict. A whole space also sets the ``diffusion`` section for :func:`sample`. A SiT
            alone is the official one (``time: sit``); REPA's needs the section.
        weights: File to load instead of ``backbone.checkpoint``, such as exported weights.
        device: Device of the weights.

    Returns:
        The network in eval mode; call it as ``net(x, t, y, exit_depth=...)``.

    Raises:
        ConfigError: If the section is invalid or the weights do not fit.
    """
    # NOTE: The checkpoint need not exist where other weights replace it.
    replaced = () if weights is None else ("backbone.checkpoint=null",)
    source = dict(space) if isinstance(space, Mapping) else space
    settings = read_model_settings(source, replaced)
    check_device(device)
    backbone = settings.backbone
    if weights is not None:
        backbone = dataclasses.replace(backbone, checkpoint=str(weights))
    net = load_backbone_from(backbone, device)
    # NOTE: What a network of flow matching is fed matters in every call, not only in `sample`.
    if settings.diffusion.process == "flow":
        check_claims(net, settings.diffusion)
    setattr(net, _DIFFUSION, settings.diffusion)
    return cast("Backbone", net)


def sample(
    net: Backbone,
    schedule: Method,
    *,
    solver: str | None = None,
    num_steps: int | None = None,
    num: int = 16,
    seed: int = 0,
    labels: Tensor | None = None,
    noise: Tensor | None = None,
    cfg_scale: float = 1.0,
    batch_size: int = 64,
    diffusion: Mapping[str, Any] | None = None,
    **solver_options: Any,
) -> Tensor:
    """Sample images with an exit schedule or another method.

    Args:
        net: The network, in eval mode, on the device to use.
        schedule: An exit schedule, or a method of :func:`load_method`. A method with its own
            weights samples with a copy of ``net``. To build that copy only once, pass what the
            method's ``network`` returns.
        solver: A value of ``solver.name``, such as ``ddim`` or ``flow_euler``. None takes the one
            that the method was made for, or ``ddim``, with flow matching ``flow_euler``.
        num_steps: Network calls per image. None takes those that the method was made for, or
            50. A method of fitted steps takes those of the full run, and makes fewer calls.
        num: Number of images; ignored if ``noise`` is given.
        seed: Seed of the starting noise and the solver's noise. Image i does not depend on
            ``num``.
        labels: Classes, (N,) int64; None cycles through all classes.
        noise: Starting noise, (N, C, H, W); None draws it from ``seed``.
        cfg_scale: Scale of classifier-free guidance; 1 is off.
        batch_size: Images sampled at once.
        diffusion: Section ``diffusion`` of a search space. None takes the one the network was
            loaded with, or the defaults.
        **solver_options: Other keys of the section ``solver``, for example ``spacing``.

    Returns:
        Samples, (N, C, H, W) float32 on the CPU, in the range of the training data ([-1, 1]
        for images), not clipped.

    Raises:
        ConfigError: If the options are invalid, the method was made for another solver, or the
            network lacks the channels or the "no class" label that guidance needs.
        ValueError: If an argument has another type, shape or range; the message names it.
    """
    check_counts(num=num, seed=seed, batch_size=batch_size)
    check_objects(net, schedule, diffusion)
    check_scale(cfg_scale)
    if isinstance(schedule, ExitSchedule) and max(schedule.depths) > net.num_exit_blocks:
        raise ValueError(
            f"The schedule runs up to {max(schedule.depths)} blocks, but the network has "
            f"{net.num_exit_blocks}. Scale it with schedsearch.schedules.hand_made.scale_schedule."
        )
    options = {"name": solver, "num_steps": num_steps, "cfg_scale": cfg_scale}
    integrator, settings = _solver_for(net, schedule, diffusion, options | solver_options)
    if isinstance(schedule, LoadedMethod):
        net = schedule.network(net if schedule.made(net) else copy.deepcopy(net))
    if noise is None:
        require_memory(4 * num * math.prod(net.in_shape), f"num {num}")
        noise = starting_noise(seed, num, net.in_shape)
    else:
        check_noise(noise, net)
    if labels is None:
        labels = balanced_labels(len(noise), net.num_classes)
    else:
        labels = checked_labels(labels, len(noise), net)
    with within_memory(f"num {len(noise)} and batch_size {batch_size}"):
        samples = generate(
            net,
            schedule,
            integrator,
            noise,
            labels,
            batch_size,
            cfg_scale=settings.cfg_scale,
            cfg_channels=settings.cfg_channels,
            seed=seed,
        )
    require_finite(samples, "samples")
    return samples


def _solver_for(
    net: Backbone, schedule: Method, diffusion: Mapping[str, Any] | None, options: dict[str, Any]
) -> tuple[Solver, SolverSettings]:
    """Build the solver of a method from keys of ``solver``; None takes the method's own."""
    inner = net.net if isinstance(net, WrappedBackbone) else net
    trained: DiffusionSettings = getattr(inner, _DIFFUSION, DiffusionSettings())
    given: DiffusionSettings = read_sections(
        {"diffusion": dataclasses.asdict(trained) if diffusion is None else dict(diffusion)}
    )["diffusion"]
    if isinstance(inner, SiT) and given.process != "flow":
        raise ConfigError(
            f"A SiT is trained by flow matching, but diffusion.process is {given.process}. Pass "
            "diffusion={'process': 'flow', 'time': 'sit'}, or sigma as the time of REPA's."
        )
    file = schedule.file if isinstance(schedule, LoadedMethod) else None
    if options["name"] is None:
        default = "flow_euler" if given.process == "flow" else "ddim"
        options["name"] = (file and file.solver) or default
    if options["num_steps"] is None:
        options["num_steps"] = (file and file.num_steps) or 50
    settings: SolverSettings = read_sections({"solver": options})["solver"]
    check_claims(net, given)
    process, learned = build_process(given), learns_variance(net)
    if not isinstance(schedule, LoadedMethod):
        return build_solver(settings, process, learned_variance=learned), settings
    check_weights(schedule, net)
    check_solver(schedule.file, schedule.path, solver=settings.name, num_steps=settings.num_steps)
    built = build_solver_for(schedule.file, settings, process, learned_variance=learned)
    return built, settings
