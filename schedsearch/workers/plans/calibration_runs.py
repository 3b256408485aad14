"""Sampling runs of a calibration of plans, and what is summed over their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.plans.recording import (
    Cell,
    ErrorRecording,
    ErrorRun,
    FitRecording,
    FitRun,
    Layout,
)
from schedsearch.methods.run import staged
from schedsearch.workers.plans.step_weights import measure_step_weights
from schedsearch.workers.rivals.choices import CALIBRATION_SEED

if TYPE_CHECKING:
    from schedsearch.protocols import Method, Solver, StagedBackbone
    from schedsearch.settings.plan import PlanSettings
    from schedsearch.workers.workbench import Workbench

STAGE_SEEDS = {"fit": 1, "table": 2, "weights": 3}
"""Added to the calibration seed, times 100,000."""

BATCH = 32
"""Images sampled at once, and whose predictions are kept when steps are weighed."""


@dataclass(frozen=True, slots=True)
class FitSums:
    """Sums over the images of a stage; see :class:`FitRun`."""

    diagonal: dict[Cell, Tensor] = field(default_factory=dict)
    adapters: dict[int, Tensor] = field(default_factory=dict)
    maps: dict[Cell, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRuns:
    """Samples the images of the stages; stages differ in their noise."""

    bench: Workbench
    settings: PlanSettings
    net: StagedBackbone
    solver: Solver
    """With as many steps as the plans."""
    layout: Layout

    @classmethod
    def of(cls, bench: Workbench, num_steps: int) -> Self:
        """The runs for a number of solver steps.

        Raises:
            ConfigError: If the network cannot be run block by block.
        """
        settings = bench.settings.plan
        assert settings is not None
        net = staged(bench.backbone, "A plan")
        return cls(
            bench=bench,
            settings=settings,
            net=net,
            solver=bench.solver_with(num_steps),
            layout=Layout.of(net, settings.max_age),
        )

    @property
    def samples(self) -> int:
        """Images sampled; for a step's weight the rest of a run is repeated, half on average."""
        settings, num_steps = self.settings, len(self.solver.times)
        repeated = settings.weight_images * (1 + num_steps / 2)
        return round(2 * settings.fit_images + 3 * settings.table_images + repeated)

    def fit_sums(self, recording: FitRecording) -> FitSums:
        """What fits need, summed over the images of the fits."""
        total = FitSums()

        def gather(run: Any) -> None:
            assert isinstance(run, FitRun)
            _add(total.diagonal, run.diagonal)
            _add(total.adapters, run.adapters)
            _add(total.maps, run.maps)

        self._sample(recording, "fit", self.settings.fit_images, gather)
        return total

    def mean_errors(
        self, reuse: Mapping[Cell, Tensor] | None, adapters: Mapping[int, Tensor] | None
    ) -> tuple[dict[Cell, float], dict[tuple[int, int], float]]:
        """Errors per cell and per (step, exit), means over the table's images.

        Args:
            reuse: Fitted numbers by cell; None measures plain reuse of every cell.
            adapters: Fitted numbers by exit; None measures plain exits.
        """
        cells: Counter[Cell] = Counter()
        exits: Counter[tuple[int, int]] = Counter()
        images = 0

        def gather(run: Any) -> None:
            nonlocal images
            assert isinstance(run, ErrorRun)
            images += run.num_images
            _add(cells, run.reuse)
            _add(exits, run.exits)

        recording = ErrorRecording(
            layout=self.layout,
            reuse=reuse,
            adapters=adapters,
            cfg_scale=self.bench.settings.solver.cfg_scale,
            cfg_channels=self.bench.settings.solver.cfg_channels,
            channels=self.net.in_shape[0],
        )
        self._sample(recording, "table", self.settings.table_images, gather)
        return (
            {cell: error / images for cell, error in cells.items()},
            {cell: error / images for cell, error in exits.items()},
        )

    def step_weights(self) -> Tensor:
        """Weights of the steps for every image, (S, N); see :func:`measure_step_weights`."""
        solver, count = self.bench.settings.solver, self.settings.weight_images
        seed = self._seed("weights")
        noise = starting_noise(seed, count, self.net.in_shape)
        labels = balanced_labels(count, self.net.num_classes)
        parts = [
            measure_step_weights(
                self.net,
                self.solver,
                noise[start : start + BATCH],
                None if labels is None else labels[start : start + BATCH],
                cfg_scale=solver.cfg_scale,
                cfg_channels=solver.cfg_channels,
                seed=seed + start,
            )
            for start in range(0, count, BATCH)
        ]
        return torch.cat(parts, dim=1)

    def _sample(
        self, method: Method, stage: str, count: int, observe: Callable[[Any], None]
    ) -> None:
        solver, seed = self.bench.settings.solver, self._seed(stage)
        generate(
            self.net,
            method,
            self.solver,
            starting_noise(seed, count, self.net.in_shape),
            balanced_labels(count, self.net.num_classes),
            min(BATCH, self.bench.settings.evaluation.batch_size),
            cfg_scale=solver.cfg_scale,
            cfg_channels=solver.cfg_channels,
            seed=seed,
            observe=observe,
        )

    def _seed(self, stage: str) -> int:
        evaluation = self.bench.settings.evaluation
        return CALIBRATION_SEED + evaluation.seed + 100_000 * STAGE_SEEDS[stage]


def _add(total: Any, more: Mapping[Any, Any]) -> None:
    for key, value in more.items():
        total[key] = total[key] + value if key in total else value
