"""Fits the steps of a row on the noise of the calibration images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.diffusion.solvers.fit import CalibrationBatch, fit_steps
from schedsearch.evaluation.sampling import balanced_labels, device_of, starting_noise
from schedsearch.exceptions import TrialError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.rivals.choices import CALIBRATION_SEED
from schedsearch.workers.rivals.thresholds import Calibrated

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols import Backbone
    from schedsearch.workers.workbench import Workbench

RUNS = 3
"""Sampling runs of a fit: the full run, and its few steps."""


def fitted_steps(bench: Workbench, net: Backbone, num_steps: int, num_samples: int) -> Calibrated:
    """Fit ``num_steps`` steps to the full run of the study's solver.

    Args:
        bench: Of the study.
        net: The network, called at full depth.
        num_steps: Network calls of the fitted run.
        num_samples: Calibration images.

    Raises:
        TrialError: If the full run is not finite.
    """
    settings = bench.settings
    seed = CALIBRATION_SEED + settings.evaluation.seed
    noise = starting_noise(seed, num_samples, net.in_shape).to(device_of(net))
    labels = balanced_labels(num_samples, net.num_classes)
    size = settings.evaluation.batch_size
    batches = [
        _batch(bench, net, noise[i : i + size], None if labels is None else labels[i : i + size])
        for i in range(0, num_samples, size)
    ]
    try:
        fit = fit_steps(bench.solver, batches, num_steps)
    except ValueError as error:
        raise TrialError(f"The steps cannot be fitted: {error}", stage="calibrate") from error
    return Calibrated(
        kind="fitted_steps",
        numbers={
            "output": fit.output,
            "times": list(fit.times),
            "coefficients": [list(step) for step in fit.coefficients],
            "cfg_scale": float(settings.solver.cfg_scale),
            "process": settings.diffusion.process,
        },
        num_steps=settings.solver.num_steps,
        samples=RUNS * num_samples,
        note=f"calibration images are {fit.distance:.2g} from those of "
        f"{settings.solver.num_steps} steps (root mean square)",
    )


def _batch(
    bench: Workbench, net: Backbone, noise: Tensor, labels: Tensor | None
) -> CalibrationBatch:
    """One batch, with the guidance of the study."""
    solver = bench.settings.solver
    on_device = None if labels is None else labels.to(noise.device)
    return CalibrationBatch(
        noise=noise,
        start=lambda wants: GuidedDenoiser(
            net,
            ExitSchedule.flat(net.num_exit_blocks),
            bench.solver,
            on_device,
            cfg_scale=solver.cfg_scale,
            cfg_channels=solver.cfg_channels,
            wants=wants,
        ),
    )
