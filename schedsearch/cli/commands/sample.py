"""``schedsearch sample``: images from a backbone and an exit schedule or another method."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.cli.arguments import (
    add_device,
    add_overrides,
    add_space,
    count,
    count_from_zero,
    output_file,
)
from schedsearch.exceptions import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols import Method
    from schedsearch.schedules.clocks import Clock
    from schedsearch.schedules.exit_schedule import ExitSchedule
    from schedsearch.settings import SpaceSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sample``."""
    add_space(parser)
    add_overrides(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--schedule",
        metavar="FILE|PRESET|full",
        default="full",
        help="exit schedule: a schedule file, a preset (scaled to the depth), full, or depths "
        "separated by commas, data to noise (default: %(default)s)",
    )
    which.add_argument(
        "--method", metavar="FILE", help="method file, as `export --method` writes it"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights to load instead of backbone.checkpoint; takes the same values",
    )
    parser.add_argument(
        "--seed",
        metavar="S",
        type=count_from_zero,
        default=0,
        help="seed of noise and labels (default: %(default)s)",
    )
    parser.add_argument(
        "--num",
        metavar="N",
        type=count,
        help="number of images (default: 16, or as many as --noise holds)",
    )
    add_device(parser)
    start = parser.add_argument_group("a fixed start")
    start.add_argument("--noise", metavar="FILE.npy", help="starting noise, (N, C, H, W) float32")
    start.add_argument("--labels", metavar="FILE.npy", help="class labels, (N,) integers")
    result = parser.add_argument_group("output")
    result.add_argument(
        "--out",
        metavar="FILE.npz",
        type=output_file(".npz"),
        required=True,
        help="file to write: images, uint8 (N, H, W, C)",
    )
    result.add_argument(
        "--grid",
        metavar="FILE.png",
        type=output_file(".png"),
        help="also write a picture of the first 80 images",
    )
    result.add_argument(
        "--raw",
        action="store_true",
        help="store the solver's float output instead: samples, (N, C, H, W)",
    )


def take_action(args: argparse.Namespace) -> int:
    """Sample images and write them."""
    import torch

    from schedsearch.backbones.devices import require_device
    from schedsearch.backbones.guidance import learns_variance
    from schedsearch.backbones.weights.checkpoint import load_backbone_from
    from schedsearch.backbones.weights.claims import check_claims
    from schedsearch.cli.starting_arrays import starting_arrays
    from schedsearch.config import read_model_settings
    from schedsearch.config.backbone_rules import shipped_family
    from schedsearch.data.loading import load_decoder
    from schedsearch.data.pixels import to_uint8
    from schedsearch.diffusion.process import build_process
    from schedsearch.diffusion.solvers import build_solver
    from schedsearch.evaluation.grid import save_grid
    from schedsearch.evaluation.sampling import generate, require_finite
    from schedsearch.memory import within_memory
    from schedsearch.methods.loading import check_weights, load_method
    from schedsearch.methods.method_file import check_fits
    from schedsearch.methods.solver import build_solver_for, solver_for

    chosen = _choose_schedule(args)
    # NOTE: The checkpoint need not exist where other weights replace it.
    replaced = () if chosen.weights is None else ("backbone.checkpoint=null",)
    settings = read_model_settings(args.space, [*args.overrides, *replaced])
    backbone = dataclasses.replace(
        settings.backbone, checkpoint=chosen.weights or settings.backbone.checkpoint
    )
    if backbone.checkpoint is None:
        raise ConfigError(
            "sample needs weights, but backbone.checkpoint is not set and --weights is missing."
        )
    net: Any = load_backbone_from(backbone, require_device(args.device))
    check_claims(net, settings.diffusion)
    process, learned = build_process(settings.diffusion), learns_variance(net)
    method: Method
    if args.method is not None:
        loaded = load_method(args.method)
        solver = solver_for(loaded.file, settings.solver)
        check_fits(
            loaded.file,
            args.method,
            num_exit_blocks=net.num_exit_blocks,
            family=shipped_family(backbone),
            solver=solver.name,
            num_steps=solver.num_steps,
        )
        integrator = build_solver_for(loaded.file, solver, process, learned_variance=learned)
        check_weights(loaded, net)
        net, method, what = loaded.network(net), loaded, f"method {loaded.file.name}"
    else:
        schedule = chosen.schedule_for(
            net, shipped_family(backbone), settings.space, settings.diffusion.clock
        )
        solver, method, what = settings.solver, schedule, f"schedule [{schedule}]"
        integrator = build_solver(solver, process, learned_variance=learned)
    noise, labels = starting_arrays(args, net)
    batch_size = settings.evaluation.batch_size
    decode = load_decoder(settings.data, args.device)  # latents become pixels; pixels stay
    with within_memory(f"--num {len(noise)} and evaluation.batch_size {batch_size}"):
        samples = generate(
            net,
            method,
            integrator,
            noise,
            labels,
            batch_size,
            cfg_scale=solver.cfg_scale,
            cfg_channels=solver.cfg_channels,
            seed=args.seed,
        )
        require_finite(samples, "samples")
        decoded = []
        for batch in torch.split(samples, batch_size):
            pixels = decode(batch)
            require_finite(pixels, "decoded images")
            decoded.append(to_uint8(pixels))
    images = torch.cat(decoded)
    _write(Path(args.out), samples, images, raw=args.raw)
    if args.grid is not None:
        save_grid(images[:80], Path(args.grid))
    if not args.quiet:
        print(
            f"{args.out}: {len(images)} images, {what}, {solver.name} with "
            f"{integrator.num_steps} steps, cfg_scale {solver.cfg_scale:g}",
            file=sys.stderr,
        )
    return 0


@dataclass(frozen=True)
class _Choice:
    """A schedule argument, before the depth of the network is known."""

    spec: str
    weights: str | None
    fingerprint: str | None = None
    names_weights: bool = False
    """Whether the weights are those that the schedule file names."""

    def schedule_for(
        self, net: Any, family: str | None, space: SpaceSettings | None, clock: Clock
    ) -> ExitSchedule:
        """The schedule itself, with the edges of the space.

        Says so when it was measured with other weights, given with ``--weights``.

        Args:
            net: The network.
            family: Its family; None for a custom class.
            space: The section, if it has edges.
            clock: Clock of the process.

        Raises:
            CheckpointError: If the weights that it names are not those that it was measured with.
        """
        from schedsearch.backbones.weights.checkpoint import fingerprint
        from schedsearch.exceptions import CheckpointError
        from schedsearch.schedules.argument import resolve_schedule

        schedule = resolve_schedule(
            self.spec,
            num_exit_blocks=net.num_exit_blocks,
            num_intervals=10 if space is None else space.num_intervals,
            edges=None if space is None else space.interval_edges,
            clock=clock,
            family=family,
        )
        differs = self.fingerprint is not None and self.fingerprint != fingerprint(net)
        if differs and self.names_weights:
            raise CheckpointError(
                f"{self.weights} holds other weights than those that {self.spec} was measured "
                "with. Restore the file, or name the weights to use with --weights."
            )
        if differs:
            print(
                f"warning: {self.spec} was measured with other weights than these; its FID does "
                "not hold for them. Pass --weights with the exported file.",
                file=sys.stderr,
            )
        return schedule


def _choose_schedule(args: argparse.Namespace) -> _Choice:
    """The schedule and the weights it brings along; ``--weights`` comes first."""
    from schedsearch.config.paths import PACKAGE_PREFIX
    from schedsearch.files.content import as_path
    from schedsearch.files.portable import weights_beside
    from schedsearch.schedules.argument import is_file
    from schedsearch.schedules.schedule_file import read_schedule_file

    path, weights = as_path(args.schedule), args.weights
    if weights is not None and not weights.startswith(PACKAGE_PREFIX):
        weights = str(Path(weights).absolute())
    if not is_file(args.schedule):
        return _Choice(args.schedule, weights)
    file = read_schedule_file(path)
    names_weights = weights is None and file.weights is not None
    if weights is None and file.weights is not None:
        weights = str(weights_beside(path, file.weights))
        if not args.quiet:
            print(f"weights: {file.weights}, as {path} says", file=sys.stderr)
    return _Choice(args.schedule, weights, file.backbone.fingerprint, names_weights)


def _write(path: Path, samples: Tensor, images: Tensor, *, raw: bool) -> None:
    import numpy as np

    from schedsearch.files.atomic import replacing

    named = {"samples": samples} if raw else {"images": images.permute(0, 2, 3, 1)}
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in named.items()}
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)
