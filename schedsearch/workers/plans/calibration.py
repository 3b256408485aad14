"""Calibrates plans: fits, held-out errors, step weights and costs; nothing is trained.

Every stage leaves a file, so an interrupted calibration continues with the next one. Images of
the three stages have noise of their own, and none is used for quality.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.plans.maps import fit_adapter, fit_diagonal, fit_reuse_map
from schedsearch.methods.plans.recording import (
    Cell,
    ErrorRecording,
    ErrorRun,
    FitRecording,
    FitRun,
    Layout,
)
from schedsearch.methods.plans.steps import Fit
from schedsearch.methods.run import staged
from schedsearch.planning.plan_front import plan_front
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.plans.costs import measure_costs
from schedsearch.workers.plans.stage_files import (
    COSTS,
    ERRORS,
    MAP_ERRORS,
    WEIGHTS,
    StageFiles,
)
from schedsearch.workers.plans.step_weights import measure_step_weights
from schedsearch.workers.plans.table import (
    FITS,
    MAPS,
    Numbers,
    PlanTable,
    StepCosts,
    median_weights,
)
from schedsearch.workers.rivals.choices import CALIBRATION_SEED
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from schedsearch.protocols import Method
    from schedsearch.workers.jobs import PlanJob
    from schedsearch.workers.workbench import Workbench

STAGE_SEEDS = {"fit": 1, "table": 2, "weights": 3}
"""Added to the calibration seed, times 100,000."""

MAP_BYTES = 2 * 1024**3
"""Memory for the sums of linear maps; cells beyond it keep the fit per channel."""

WEIGHT_BATCH = 32
"""Images whose predictions are kept at once when steps are weighed."""


def plan_folder(folder: RunFolder, num_steps: int) -> Path:
    """Where the calibration for a number of solver steps lies."""
    return folder.methods / "plans" / f"{num_steps}-steps"


def plan_digest(bench: Workbench, num_steps: int) -> str:
    """Digest of what a calibration depends on besides the run folder's space."""
    settings = bench.settings.plan
    assert settings is not None
    behind = {
        "num_steps": num_steps,
        "weights": fingerprint(bench.pretrained),
        **{k: getattr(settings, k) for k in ("fit_images", "table_images", "weight_images")},
        "max_age": settings.max_age,
    }
    return hashlib.sha256(json.dumps(behind, sort_keys=True).encode()).hexdigest()[:16]


def calibrate_plans(job: PlanJob) -> None:
    """Calibrate plans for one number of solver steps, unless that is done.

    Raises:
        ConfigError: If the network cannot be run block by block.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    path = plan_folder(folder, job.num_steps)
    digest = plan_digest(bench, job.num_steps)
    kept = PlanTable.read(path)
    if kept is not None and kept.digest == digest:
        return
    path.mkdir(parents=True, exist_ok=True)
    _Calibration(bench, folder, StageFiles(path, digest), job.num_steps).run()


@dataclass
class _Calibration:
    """One calibration; its stages run in order."""

    bench: Workbench
    folder: RunFolder
    files: StageFiles
    steps: int

    def __post_init__(self) -> None:
        settings = self.bench.settings.plan
        assert settings is not None
        self.settings = settings
        self.net = staged(self.bench.backbone, "A plan")
        self.solver = self.bench.solver_with(self.steps)
        self.layout = Layout.of(self.net, settings.max_age)

    def run(self) -> None:
        """All stages, then the table."""
        files = self.files
        files.start_over_if_other()
        fits = files.numbers(FITS, self._fit)
        errors = files.content(ERRORS, lambda: self._errors(fits))
        weights = files.content(WEIGHTS, self._weights)
        costs = files.content(COSTS, self._costs)
        table = self._table(errors, weights, costs, {})
        maps = files.numbers(MAPS, lambda: self._maps(table))
        with_maps = files.content(MAP_ERRORS, lambda: self._map_errors(maps))
        self._table(errors, weights, costs, with_maps).write(files.path)

    # ---- stages ---------------------------------------------------------------------------

    def _fit(self) -> Numbers:
        """Corrections per channel of every cell, and adapters of every exit."""
        diagonal: dict[Cell, Tensor] = {}
        adapters: dict[int, Tensor] = {}

        def gather(run: Any) -> None:
            assert isinstance(run, FitRun)
            _add(diagonal, run.diagonal)
            _add(adapters, run.adapters)

        self._sample(FitRecording(self.layout), "fit", self.settings.fit_images, gather)
        found = {Numbers.cell_name(c, "diagonal"): fit_diagonal(s) for c, s in diagonal.items()}
        found |= {Numbers.exit_name(d): fit_adapter(s) for d, s in adapters.items()}
        return Numbers(found)

    def _errors(self, fits: Numbers) -> dict[str, Any]:
        """Held-out errors of plain and fitted reuse, of plain exits and with adapters."""
        plain = self._measured(None, None)
        cells = {c: fits.tensors[Numbers.cell_name(c, "diagonal")] for c in plain[0]}
        adapters = {d: fits.tensors[Numbers.exit_name(d)] for d in self.layout.exits}
        fitted = self._measured(cells, adapters)
        return {
            "reuse": [[*c, {"plain": e, "diagonal": fitted[0][c]}] for c, e in plain[0].items()],
            "exits": [[*c, {"plain": e, "map": fitted[1][c]}] for c, e in plain[1].items()],
        }

    def _weights(self) -> list[float]:
        solver, count = self.bench.settings.solver, self.settings.weight_images
        seed = self._seed("weights")
        noise = starting_noise(seed, count, self.net.in_shape)
        labels = balanced_labels(count, self.net.num_classes)
        parts = [
            measure_step_weights(
                self.net,
                self.solver,
                noise[start : start + WEIGHT_BATCH],
                None if labels is None else labels[start : start + WEIGHT_BATCH],
                cfg_scale=solver.cfg_scale,
                cfg_channels=solver.cfg_channels,
                seed=seed + start,
            )
            for start in range(0, count, WEIGHT_BATCH)
        ]
        return list(median_weights(torch.cat(parts, dim=1)))

    def _costs(self) -> dict[str, float]:
        return asdict(measure_costs(self.bench, self.folder, self.net, self.solver))

    def _maps(self, table: PlanTable) -> Numbers:
        """Linear maps of the cells that good plans use most, within the memory."""
        used: Counter[Cell] = Counter()
        for plan in plan_front(table.errors(), table.latency_costs()):
            for step, choice in enumerate(plan.steps):
                if choice.kind == "reuse":
                    used[step, choice.blocks, choice.age] += 1
        size = (2 * self.net.width + 1) * (3 * self.net.width + 1) * 8
        wanted = frozenset(cell for cell, _ in used.most_common(max(1, MAP_BYTES // size)))
        sums: dict[Cell, Tensor] = {}

        def gather(run: Any) -> None:
            assert isinstance(run, FitRun)
            _add(sums, run.maps)

        recording = FitRecording(self.layout, maps=wanted, simple=False)
        self._sample(recording, "fit", self.settings.fit_images, gather)
        return Numbers({Numbers.cell_name(c, "map"): fit_reuse_map(s) for c, s in sums.items()})

    def _map_errors(self, maps: Numbers) -> list[Any]:
        cells: dict[Cell, Tensor] = {}
        for name, numbers in maps.tensors.items():
            step, prefix, age = map(int, name.removeprefix("map.").split("."))
            cells[step, prefix, age] = numbers
        reuse, _ = self._measured(cells, {})
        return [[*cell, error] for cell, error in reuse.items()]

    # ---- parts ----------------------------------------------------------------------------

    def _table(
        self, errors: Mapping[str, Any], weights: list[float], costs: Any, maps: Any
    ) -> PlanTable:
        fitted = {(s, f, a): error for s, f, a, error in maps}
        reuse: dict[Cell, dict[Fit, float]] = {(s, f, a): e for s, f, a, e in errors["reuse"]}
        for cell, error in fitted.items():
            reuse[cell] = {**reuse[cell], "map": error}
        return PlanTable(
            digest=self.files.digest,
            num_steps=len(self.solver.times),
            num_blocks=self.net.num_blocks,
            layout=self.layout,
            weights=tuple(weights),
            reuse=reuse,
            exits={(s, d): e for s, d, e in errors["exits"]},
            costs=StepCosts(**costs),
            seconds=round(self.files.seconds, 3),
            samples=self._samples(),
        )

    def _samples(self) -> int:
        """Images sampled; for a step's weight the rest of a run is repeated, half on average."""
        settings, num_steps = self.settings, len(self.solver.times)
        repeated = settings.weight_images * (1 + num_steps / 2)
        return round(2 * settings.fit_images + 3 * settings.table_images + repeated)

    def _measured(
        self, reuse: Mapping[Cell, Tensor] | None, adapters: Mapping[int, Tensor] | None
    ) -> tuple[dict[Cell, float], dict[tuple[int, int], float]]:
        """Mean errors over the table's images."""
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

    def _seed(self, stage: str) -> int:
        evaluation = self.bench.settings.evaluation
        return CALIBRATION_SEED + evaluation.seed + 100_000 * STAGE_SEEDS[stage]

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
            min(WEIGHT_BATCH, self.bench.settings.evaluation.batch_size),
            cfg_scale=solver.cfg_scale,
            cfg_channels=solver.cfg_channels,
            seed=seed,
            observe=observe,
        )


def _add(total: Any, more: Mapping[Any, Any]) -> None:
    for key, value in more.items():
        total[key] = total[key] + value if key in total else value
