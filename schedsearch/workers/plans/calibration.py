"""Calibrates plans: fits, held-out errors, step weights and costs; nothing is trained.

Every stage leaves a file, so an interrupted calibration continues with the next one. Images of
the three stages have different noise, and none is used for quality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from schedsearch.methods.plans.maps import fit_adapter, fit_diagonal, fit_reuse_map
from schedsearch.methods.plans.recording import Cell, FitRecording
from schedsearch.methods.plans.steps import Fit
from schedsearch.planning.plan_front import plan_front
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.plans.calibration_runs import CalibrationRuns
from schedsearch.workers.plans.costs import measure_costs
from schedsearch.workers.plans.stage_files import (
    COSTS,
    ERRORS,
    MAP_ERRORS,
    WEIGHTS,
    StageFiles,
    plan_digest,
    plan_folder,
    read_table,
    write_table,
)
from schedsearch.workers.plans.table import (
    FITS,
    MAPS,
    Numbers,
    PlanTable,
    StepCosts,
    median_weights,
)
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.workers.jobs import PlanJob

MAP_BYTES = 2 * 1024**3
"""Memory for the sums of linear maps; cells beyond it keep the fit per channel."""


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
    kept = read_table(folder, path)
    if kept is not None and kept.digest == digest:
        return
    path.mkdir(parents=True, exist_ok=True)
    runs = CalibrationRuns.of(bench, job.num_steps)
    _Calibration(folder, StageFiles(folder, path, digest), runs).run()


@dataclass(frozen=True, slots=True)
class _Calibration:
    """One calibration; its stages run in order."""

    folder: RunFolder
    files: StageFiles
    runs: CalibrationRuns

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
        write_table(self.folder, files.path, self._table(errors, weights, costs, with_maps))

    def _fit(self) -> Numbers:
        """Corrections per channel of every cell, and adapters of every exit."""
        sums = self.runs.fit_sums(FitRecording(self.runs.layout))
        found = {
            Numbers.cell_name(c, "diagonal"): fit_diagonal(s) for c, s in sums.diagonal.items()
        }
        found |= {Numbers.exit_name(d): fit_adapter(s) for d, s in sums.adapters.items()}
        return Numbers(found)

    def _errors(self, fits: Numbers) -> dict[str, Any]:
        """Held-out errors of plain and fitted reuse, of plain exits and with adapters."""
        reuse, exits = self.runs.mean_errors(None, None)
        cells = {c: fits.tensors[Numbers.cell_name(c, "diagonal")] for c in reuse}
        adapters = {d: fits.tensors[Numbers.exit_name(d)] for d in self.runs.layout.exits}
        fitted, adapted = self.runs.mean_errors(cells, adapters)
        return {
            "reuse": [[*c, {"plain": e, "diagonal": fitted[c]}] for c, e in reuse.items()],
            "exits": [[*c, {"plain": e, "map": adapted[c]}] for c, e in exits.items()],
        }

    def _weights(self) -> list[float]:
        return list(median_weights(self.runs.step_weights()))

    def _costs(self) -> dict[str, float]:
        runs = self.runs
        return asdict(measure_costs(runs.bench, self.folder, runs.net, runs.solver))

    def _maps(self, table: PlanTable) -> Numbers:
        """Linear maps of the cells that good plans use most, within the memory."""
        # Count the cells of good plans.
        used: Counter[Cell] = Counter()
        for plan in plan_front(table.errors(), table.latency_costs()):
            for step, choice in enumerate(plan.steps):
                if choice.kind == "reuse":
                    used[step, choice.blocks, choice.age] += 1
        # Fit the most frequent ones.
        width = self.runs.net.width
        size = (2 * width + 1) * (3 * width + 1) * 8
        wanted = frozenset(cell for cell, _ in used.most_common(max(1, MAP_BYTES // size)))
        sums = self.runs.fit_sums(FitRecording(self.runs.layout, maps=wanted, simple=False))
        found = {Numbers.cell_name(c, "map"): fit_reuse_map(s) for c, s in sums.maps.items()}
        return Numbers(found)

    def _map_errors(self, maps: Numbers) -> list[Any]:
        """Held-out errors of reuse with linear maps."""
        cells: dict[Cell, Tensor] = {}
        for name, numbers in maps.tensors.items():
            step, prefix, age = map(int, name.removeprefix("map.").split("."))
            cells[step, prefix, age] = numbers
        reuse, _ = self.runs.mean_errors(cells, {})
        return [[*cell, error] for cell, error in reuse.items()]

    def _table(
        self, errors: Mapping[str, Any], weights: list[float], costs: Any, maps: Any
    ) -> PlanTable:
        reuse: dict[Cell, dict[Fit, float]] = {(s, f, a): e for s, f, a, e in errors["reuse"]}
        for step, prefix, age, error in maps:
            cell = (step, prefix, age)
            reuse[cell] = {**reuse[cell], "map": error}
        return PlanTable(
            digest=self.files.digest,
            num_steps=len(self.runs.solver.times),
            num_blocks=self.runs.net.num_blocks,
            layout=self.runs.layout,
            weights=tuple(weights),
            reuse=reuse,
            exits={(s, d): e for s, d, e in errors["exits"]},
            costs=StepCosts(**costs),
            seconds=round(self.files.seconds, 3),
            samples=self.runs.samples,
        )
