"""Which shared fine-tune makes the better error table, and the better starting weights?

    python -m benchmarks.shared_finetune digits_dit --output runs/shared_finetune

Three sets of weights are compared: pretrained, tuned with uniform exits, tuned on random
schedules of the space; and sums of the table's weighted losses with those of plain ones. Every
number is kept in the output folder when it is measured, so the
same command goes on after an interruption. About 40 minutes on one idle core for digits_dit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.result_tables import Row, Table
from schedsearch.atomic import write_text
from schedsearch.backbones.checkpoint import load_weights
from schedsearch.config import dump_settings, read_settings
from schedsearch.evaluation.error_table import loss_weights, stratified_times
from schedsearch.exit_rules import ScheduleExits
from schedsearch.hand_made import FULL
from schedsearch.planning.cells import visited_excess
from schedsearch.planning.dynamic_programming import best_between
from schedsearch.planning.error_table import ErrorTable
from schedsearch.protocols import Backbone, NoiseProcess
from schedsearch.records import ProfileJob
from schedsearch.schedule import ExitSchedule
from schedsearch.search.loading import load_trainer
from schedsearch.search.profile_worker import run_profile
from schedsearch.search.progress import FileProgress
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.workbench import Workbench, open_workbench
from schedsearch.settings import ProfileSettings, StudySettings
from schedsearch.space import SearchSpace
from schedsearch.warm_starts import read_warm_starts

STARTS = ("pretrained", "uniform", "schedules")
"""Weights to start from, and to measure the error table of."""

PLANNED = ("pretrained", "uniform", "schedules", "uniform, plain")
"""Tables whose best schedules are measured."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, default=Path("runs/shared_finetune"))
    parser.add_argument("--steps", type=int, default=400, help="of each shared fine-tune")
    parser.add_argument("--seeds", type=int, default=2, help="evaluation seeds, from 0")
    parser.add_argument("--random", type=int, default=10, help="random schedules for the ranking")
    parser.add_argument(
        "--points", type=Path, help="further FIDs for the ranking: JSON, [[[depths], FID], ...]"
    )
    args = parser.parse_args(argv)
    settings = read_settings(args.space, args.overrides)
    if settings.profile is None:
        settings = dataclasses.replace(settings, profile=ProfileSettings())
    lab = Lab(settings, args.output, args.steps)
    named = schedules_to_compare(lab)
    chosen = random_schedules(lab, args.random)
    print(plans_of_tables(lab, named, args.seeds).to_markdown(), flush=True)
    print(starting_weights(lab, named, args.seeds).to_markdown(), flush=True)
    points = [(s, lab.mean_fid("pretrained", s, 1)) for s in (*named.values(), *chosen)]
    if args.points is not None:
        rows = json.loads(args.points.read_text(encoding="utf-8"))
        points += [(ExitSchedule(tuple(depths)), fid) for depths, fid in rows]
    print(ranking(lab.costs, lab.space.min_depth, points, lab.weights).to_markdown())


class Lab:
    """Error tables and FIDs of a space, each measured once and kept.

    Args:
        settings: The space.
        folder: Where everything is kept.
        num_steps: Steps of each shared fine-tune.
    """

    def __init__(self, settings: StudySettings, folder: Path, num_steps: int) -> None:
        assert settings.profile is not None
        self.settings = settings
        self.space = settings.space.build()
        self._file = folder / "fid.json"
        self._folders = {
            start: RunFolder(folder / ("untuned" if start == "pretrained" else "tuned"))
            for start in STARTS
        }
        tables = {start: self._table(start, num_steps) for start in STARTS}
        self.bench: Workbench = open_workbench(
            dump_settings(settings), str(folder.resolve() / "reference")
        )
        probe = ExitSchedule(tuple(range(self.space.num_intervals)))
        visited = probe.visited(self.bench.solver.times)
        self.weights = [visited.count(interval) for interval in range(self.space.num_intervals)]
        self.costs: dict[str, np.ndarray] = {}
        for start, table in tables.items():
            self.costs[start] = visited_excess(table, self.space, self.weights)
            unweighted = self.costs[start] / mean_weights(self.bench.process, self.space)
            self.costs[f"{start}, plain"] = unweighted

    def _table(self, start: str, num_steps: int) -> ErrorTable:
        assert self.settings.profile is not None
        steps = 0 if start == "pretrained" else num_steps
        profile = dataclasses.replace(self.settings.profile, num_steps=steps)
        job = ProfileJob(
            exits="schedules" if start == "schedules" else "uniform",
            settings=dump_settings(dataclasses.replace(self.settings, profile=profile)),
            run_dir=str(self._folders[start].root),
        )
        outcome = run_profile(job)
        if "error" in outcome:
            raise SystemExit(f"{start}: {outcome['error']}")
        return ErrorTable.from_dict(json.loads(outcome["record"]))

    @property
    def num_steps(self) -> int:
        """Steps of a schedule's own fine-tune, the recipe's."""
        return self.settings.recipe.num_steps

    def mean_fid(
        self, start: str, schedule: ExitSchedule, num_seeds: int, num_steps: int | None = None
    ) -> float:
        """FID after a fine-tune for a schedule, mean over evaluation seeds 0, 1, ...

        Args:
            start: Weights to tune from.
            schedule: The schedule.
            num_seeds: Evaluation seeds.
            num_steps: Steps of the fine-tune; None takes the recipe's.
        """
        steps = self.num_steps if num_steps is None else num_steps
        key = f"{start}, {steps} steps, {schedule}"
        found = self._read()
        if len(found.get(key, [])) < num_seeds:
            net = self._tuned(start, schedule, steps)
            samples = self.settings.evaluation.num_samples
            found[key] = [
                self.bench.measure(net, schedule, seed=seed, num_samples=samples).fid
                for seed in range(num_seeds)
            ]
            write_text(self._file, json.dumps(found, indent=1) + "\n")
        return float(np.mean(found[key][:num_seeds]))

    def _read(self) -> dict[str, list[float]]:
        if not self._file.is_file():
            return {}
        found: dict[str, list[float]] = json.loads(self._file.read_text(encoding="utf-8"))
        return found

    def _tuned(self, start: str, schedule: ExitSchedule, num_steps: int) -> Backbone:
        net = self.bench.fresh_backbone()
        if start != "pretrained":
            load_weights(net, self._folders[start].shared_weights(start))
        recipe = dataclasses.replace(self.settings.recipe, num_steps=num_steps)
        log = self._file.parent / "log"
        log.mkdir(exist_ok=True)
        return load_trainer(self.settings.trainer).finetune(
            net,
            ScheduleExits(schedule),
            self.bench.source,
            self.bench.process,
            recipe,
            FileProgress(log, save_every=num_steps + 1),
            self.settings.search.seed,
        )

    def blocks(self, schedule: ExitSchedule) -> int:
        """Blocks of one solver run."""
        return sum(w * d for w, d in zip(self.weights, schedule.depths, strict=True))

    def planned(self, table: str, blocks: int) -> ExitSchedule:
        """The best schedule of a table with at most so many blocks."""
        found = best_between(self.costs[table], self.space, self.weights, 0, blocks)
        assert found is not None
        return found


def mean_weights(process: NoiseProcess, space: SearchSpace) -> np.ndarray:
    """Mean weight of a table's losses in each interval, (num_intervals, 1)."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        stratified_times(process, interval, space.num_intervals, 1000, generator)
        for interval in range(space.num_intervals)
    ]
    return np.array([[loss_weights(process, times).mean().item()] for times in rows])


def schedules_to_compare(lab: Lab) -> dict[str, ExitSchedule]:
    """The space's presets, a flat schedule, and what the table of pretrained weights plans."""
    starts = read_warm_starts(lab.settings, lab.bench.backbone.num_exit_blocks)
    named = {start.label: start.schedule for start in starts if start.label != FULL}
    presets = list(named.items())
    middle = (lab.space.min_depth + lab.space.max_depth + 1) // 2
    flat = ExitSchedule.flat(middle, lab.space.num_intervals)
    plans = {
        f"plan at {name}": lab.planned("pretrained", lab.blocks(preset))
        for name, preset in presets[1:]
    }
    return {**named, f"flat {middle}": flat, **plans}


def random_schedules(lab: Lab, num: int) -> list[ExitSchedule]:
    """Random schedules, evenly spread over the block counts of the space."""
    rng = np.random.default_rng(0)
    low, high = (
        lab.blocks(ExitSchedule.flat(depth, lab.space.num_intervals))
        for depth in (lab.space.min_depth, lab.space.max_depth)
    )
    edges = np.linspace(low + 0.25 * (high - low), high, num + 1).astype(int)
    strata = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    drawn = (lab.space.sample_with_blocks(rng, a, b, lab.weights) for a, b in strata)
    return [schedule for schedule in drawn if schedule is not None]


def plans_of_tables(lab: Lab, named: Mapping[str, ExitSchedule], num_seeds: int) -> Table:
    """FID of each table's best schedules, tuned from the pretrained weights."""
    rows: list[Row] = []
    for name in [name for name in named if f"plan at {name}" in named]:
        blocks = lab.blocks(named[name])
        rows.append({"at the blocks of": name, "blocks": blocks})
        rows[-1]["hand-made"] = lab.mean_fid("pretrained", named[name], num_seeds)
        for table in PLANNED:
            plan = lab.planned(table, blocks)
            rows[-1][table] = lab.mean_fid("pretrained", plan, num_seeds)
            rows[-1][f"plan of {table}"] = str(plan)
    columns = {"at the blocks of": "", "blocks": "d", "hand-made": ".3f"}
    columns |= dict.fromkeys(PLANNED, ".3f")
    columns |= {f"plan of {table}": "" for table in PLANNED}
    note = f"FID after {lab.num_steps} steps from the pretrained weights, {num_seeds} seeds."
    return Table(title="Best schedules of each table", note=note, columns=columns, rows=rows)


def starting_weights(lab: Lab, named: Mapping[str, ExitSchedule], num_seeds: int) -> Table:
    """FID of the same schedules from each set of weights, tuned and not."""
    columns = {"schedule": "", "depths": ""}
    rows: list[Row] = [{"schedule": name, "depths": str(s)} for name, s in named.items()]
    for steps in (0, lab.num_steps):
        for start in STARTS:
            columns[f"{start}, {steps} steps"] = ".3f"
            for row, schedule in zip(rows, named.values(), strict=True):
                row[f"{start}, {steps} steps"] = lab.mean_fid(start, schedule, num_seeds, steps)
    means: Row = {"schedule": "mean", "depths": ""}
    means |= {
        key: float(np.mean([row[key] for row in rows])) for key, how in columns.items() if how
    }
    note = f"FID by starting weights and steps of the schedule's own fine-tune, {num_seeds} seeds."
    return Table(title="Starting weights", note=note, columns=columns, rows=[*rows, means])


def ranking(
    costs: Mapping[str, np.ndarray],
    min_depth: int,
    points: Sequence[tuple[ExitSchedule, float]],
    weights: Sequence[int],
) -> Table:
    """Rank agreement of each table's sums with measured FIDs, and of the block count.

    Kendall's tau over all pairs, and over the pairs whose block counts differ by at most a
    tenth: there a count of blocks says little, and a table has to.

    Args:
        costs: Excess loss by table, (num_intervals, num_levels).
        min_depth: Depth of the first column.
        points: Schedules and their FIDs.
        weights: Network calls per interval.
    """
    fids = np.array([fid for _, fid in points])
    depths = np.array([schedule.depths for schedule, _ in points])
    blocks = depths @ np.array(weights)
    proxies = {"block count": -blocks.astype(float)}
    intervals = np.arange(depths.shape[1])
    for name, table in costs.items():
        proxies[f"{name} table"] = table[intervals, depths - min_depth].sum(1)
    first, second = np.triu_indices(len(points), 1)
    alike = np.abs(blocks[first] - blocks[second]) <= 0.1 * np.minimum(
        blocks[first], blocks[second]
    )
    rows: list[Row] = []
    for name, proxy in proxies.items():
        agree = np.sign(proxy[first] - proxy[second]) * np.sign(fids[first] - fids[second])
        rows.append({"ranked by": name, "tau": float(agree.mean())})
        rows[-1]["tau, alike"] = float(agree[alike].mean()) if alike.any() else None
    columns = {"ranked by": "", "tau": ".2f", "tau, alike": ".2f"}
    note = (
        f"Kendall's tau with the FID of {len(points)} schedules ({len(first)} pairs), and of the "
        f"{int(alike.sum())} pairs whose block counts differ by at most 10 %."
    )
    return Table(title="Rank agreement", note=note, columns=columns, rows=rows)


if __name__ == "__main__":
    main()
