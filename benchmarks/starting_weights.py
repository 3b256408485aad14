"""Weights of its own for every schedule, or weights that all schedules share?

    python -m benchmarks.starting_weights digits_dit --jobs 2

Full depth and the presets of a space are measured with weights of several kinds: pretrained, tuned
for the schedule alone, tuned once on random schedules of the space (or with uniformly drawn exit
depths) and used as they are, and both.
Every kind is made anew for each training seed. Rows are kept as soon as they are measured; the
same command goes on where it was cut off. About an hour of a core for digits_dit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from schedsearch.statistics.nested import nested_interval

from benchmarks.result_tables import Row, Table
from benchmarks.retraining import Job, exit_code_of, measure_all
from benchmarks.training_seeds import FIRST_EVALUATION_SEED, FIRST_TRAINING_SEED, unused
from schedsearch.config import dump_settings, num_exit_blocks_of, read_settings
from schedsearch.files.atomic import write_text
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import TunedExits
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.study.warm_starts import read_warm_starts


@dataclass(frozen=True, slots=True)
class Kind:
    """Weights to measure schedules with."""

    own: int
    """Steps for the schedule alone, by the space's recipe."""
    shared: int = 0
    """Steps with random exits before these."""
    exits: TunedExits = "schedules"
    """Those exits: of random schedules of the space, or uniformly drawn depths."""
    overrides: tuple[str, ...] = ()
    """Other keys of the space."""
    note: str = ""

    @property
    def name(self) -> str:
        """For people, and for the folder."""
        if not self.own + self.shared:
            return "pretrained"
        steps = [f"{self.shared} shared"] * bool(self.shared) + [f"{self.own} own"] * bool(
            self.own
        )
        return " + ".join(steps) + (f", {self.note}" if self.note else "")

    @property
    def settings(self) -> tuple[str, ...]:
        """As overrides of a space file."""
        found = (f"recipe.num_steps={self.own}", *self.overrides)
        if self.shared:
            found += (f"profile.num_steps={self.shared}", "profile.start=shared")
        return found


NO_LAMBDA = "recipe.lambda_weighting={kind: none}"

KINDS = (
    Kind(own=400),  # the one to which the others are compared
    Kind(own=0),
    Kind(own=100),
    Kind(own=0, shared=200),
    Kind(own=0, shared=400),
    Kind(own=0, shared=400, overrides=(NO_LAMBDA,), note="lambda = 1"),
    Kind(own=0, shared=400, exits="uniform", note="uniform exits"),
    Kind(own=0, shared=800),
    Kind(own=100, shared=400),
    Kind(own=100, shared=400, overrides=("recipe.ema_decay=0.995",), note="EMA 0.995"),
)


def table_of(fids: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], note: str) -> Table:
    """One row per kind: mean FIDs, and differences to the first kind.

    Args:
        fids: By kind and schedule, training seeds x evaluation seeds.
        note: How it was measured, for people.
    """
    first, *_ = fids.values()
    rows: list[Row] = []
    for kind, found in fids.items():
        row: Row = {"weights": kind}
        for name, values in found.items():
            row[name] = float(np.mean(values))
            row[f"{name}, difference"] = None
            if found is not first:
                apart = nested_interval(np.subtract(values, first[name]))
                low, high = apart.interval
                row[f"{name}, difference"] = (
                    f"{apart.mean:+.3f} ({low:+.3f} to {high:+.3f}) {apart.verdict}"
                )
        rows.append(row)
    columns = {"weights": ""}
    for name in first:
        columns |= {name: ".3f", f"{name}, difference": ""}
    return Table(title="FID by kind of weights", note=note, columns=columns, rows=rows)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starting_weights",
        description=(__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/starting_weights"), help="new for other -o"
    )
    parser.add_argument("--training-seeds", type=int, default=3)
    parser.add_argument("--evaluation-seeds", type=int, default=3)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--kind", action="append", choices=names, help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args(arguments)
    if min(args.training_seeds, args.evaluation_seeds) < 2:
        parser.error("an interval needs two training seeds and two evaluation seeds or more")
    settings = read_settings(args.space, args.overrides)
    seeds = unused(FIRST_EVALUATION_SEED, args.evaluation_seeds, settings)
    training = unused(FIRST_TRAINING_SEED, args.training_seeds, settings)
    num_samples = settings.evaluation.num_samples
    fids: dict[str, dict[str, list[list[float]]]] = {}
    for kind in KINDS:
        if args.kind and kind.name not in args.kind:
            continue
        settings = read_settings(args.space, [*args.overrides, *kind.settings])
        folder = RunFolder(args.output / kind.name.replace(" ", "_").replace(",", ""))
        folder.root.mkdir(parents=True, exist_ok=True)
        write_text(folder.space_file, dump_settings(settings))
        depth = num_exit_blocks_of(settings.backbone) or settings.space.max_depth
        starts = {start.label: start.schedule for start in read_warm_starts(settings, depth)}
        jobs = {
            (name, seed): Job(
                depths=schedule.depths,
                num_steps=kind.own,
                training_seed=seed,
                evaluation_seeds=seeds,
                num_samples=num_samples,
                start="shared" if kind.shared else "pretrained",
                exits=kind.exits,
            )
            for name, schedule in starts.items()
            # Without any fine-tune all training seeds are one.
            for seed in (training if kind.own or kind.shared else training[:1])
        }
        known = measure_all(jobs.values(), folder.root, folder.root / "rows.jsonl", args.jobs)
        fids[kind.name] = {
            name: [
                known[jobs[name, seed if (name, seed) in jobs else training[0]].key]["fids"]
                for seed in training
            ]
            for name in starts
        }
        features = next(iter(known.values()))["features"]
    note = (
        f"FID ({features}, n={num_samples}), {len(training)} training x {len(seeds)} evaluation "
        f"seeds; differences to the first row are paired by both, 95 % interval over both. "
        f"{FULL} is full depth."
    )
    table = table_of(fids, note)
    print(table.to_markdown())
    if args.json:
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
