"""Do the verdicts of a run hold for other training seeds? Presets against rivals, fine-tuned anew.

    python -m benchmarks.training_seeds RUN --training-seeds 3 --evaluation-seeds 5 --jobs 2
    python -m benchmarks.training_seeds RUN --num-steps 400 --rows rows.jsonl --json verdicts.json

Every preset of the run, and the rival that the search chose for it, is fine-tuned with training
seeds that the run did not use, and measured at evaluation seeds that it did not use either. Where
trials start from shared weights, the shared fine-tune is repeated for each training seed.
Differences are paired within a training and an evaluation seed, and their spread is moderated by
that of all presets; an auditor of the run judges the same images. Each row goes to ``--rows`` as
soon as it is measured; the same command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from schedsearch.statistics.nested import NestedInterval, nested_intervals

from benchmarks.result_tables import Row, Table
from benchmarks.retraining import Job, exit_code_of, measure_all
from schedsearch.files.atomic import write_text
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import SEED_OFFSET
from schedsearch.runs.results import FrontEntry, RunResults
from schedsearch.settings import StudySettings

Fids = Mapping[tuple[tuple[int, ...], int], Sequence[Sequence[float]]]
"""By depths and number of steps: training seeds x evaluation seeds."""

FIRST_TRAINING_SEED = 1_000
FIRST_EVALUATION_SEED = 2_000
"""Far from those of most runs, so that nothing measured here chose anything."""


def unused(first: int, count: int, settings: StudySettings) -> tuple[int, ...]:
    """The first seeds from ``first`` on that nothing in a run was trained or measured with.

    Args:
        first: Smallest seed to take.
        count: How many.
        settings: Of the run.
    """
    search, evaluation = settings.search.seed, settings.evaluation
    used = {
        SEED_OFFSET + search,
        *settings.trial_training_seeds_used,
        *evaluation.trial_seeds_used,
        *evaluation.confirm_seeds_used,
        *evaluation.runoff_seeds_used,
        *evaluation.control_seeds_used,
        *settings.confirm_training_seeds_used,
        *settings.runoff_training_seeds_used,
    }
    free = (seed for seed in itertools.count(first) if seed not in used)
    return tuple(itertools.islice(free, count))


def verdict_table(
    pairs: Mapping[str, tuple[FrontEntry, FrontEntry]],
    fids: Fids,
    num_steps: int,
    protocol: str,
    audited: Fids | None = None,
) -> Table:
    """One row per preset.

    Args:
        pairs: Preset and rival by the preset's name.
        fids: Of all schedules.
        num_steps: The rung to compare at.
        protocol: How it was measured, for people.
        audited: The auditor's FIDs of the same images, where there is one.
    """
    found = _differences(fids, pairs, num_steps)
    audits = None if audited is None else _differences(audited, pairs, num_steps)
    rows: list[Row] = []
    for name, (preset, rival) in pairs.items():
        low, high = found[name].interval
        row: Row = {
            "preset": name,
            "preset_ms": preset.latency_ms,
            "rival": " ".join(map(str, rival.depths)),
            "rival_ms": rival.latency_ms,
            "difference": found[name].mean,
            "low": low,
            "high": high,
            "verdict": found[name].verdict,
        }
        if audits is not None:
            low, high = audits[name].interval
            row |= {
                "audit_difference": audits[name].mean,
                "audit_low": low,
                "audit_high": high,
                "audit_verdict": audits[name].verdict,
            }
        rows.append(row)
    columns = {
        "preset": "",
        "preset_ms": ".1f",
        "rival": "",
        "rival_ms": ".1f",
        "difference": "+.3f",
        "low": "+.3f",
        "high": "+.3f",
        "verdict": "",
    }
    if audited is not None:
        columns |= {
            "audit_difference": "+.3f",
            "audit_low": "+.3f",
            "audit_high": "+.3f",
            "audit_verdict": "",
        }
    return Table(
        title=f"FID(rival) - FID(preset) after {num_steps} steps",
        note=protocol,
        columns=columns,
        rows=rows,
    )


def _differences(
    fids: Fids, pairs: Mapping[str, tuple[FrontEntry, FrontEntry]], num_steps: int
) -> dict[str, NestedInterval]:
    """Rival minus preset, paired within a training and an evaluation seed."""
    tables = [
        np.subtract(fids[rival.depths, num_steps], fids[preset.depths, num_steps])
        for preset, rival in pairs.values()
    ]
    return dict(zip(pairs, nested_intervals(tables), strict=True))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_seeds", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("run", help="a finished run: its folder, or its name below runs/")
    parser.add_argument("--preset", action="append", help="may be repeated (default: all)")
    parser.add_argument("--training-seeds", type=int, default=3)
    parser.add_argument("--evaluation-seeds", type=int, default=5)
    parser.add_argument("--num-samples", type=int, help="default: those of the run's trials")
    parser.add_argument("--num-steps", type=int, action="append", help="default: the run's")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--rows", type=Path, help="default: training_seeds.jsonl in the run")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    args = parser.parse_args(arguments)
    if min(args.training_seeds, args.evaluation_seeds) < 2:
        parser.error("an interval needs two training seeds and two evaluation seeds or more")
    folder = RunFolder.existing(args.run)
    results = RunResults.load(folder)
    settings = results.settings
    rivals = {preset.title: (preset, results.rival_of(preset)) for preset in results.hand_made()}
    pairs = {
        name: (preset, rival) for name, (preset, rival) in rivals.items() if rival is not None
    }
    if not pairs:
        parser.error(f"{args.run} holds no preset with a rival at its latency")
    if unknown := set(args.preset or pairs) - set(pairs):
        parser.error(f"--preset must be of {', '.join(pairs)}, got {', '.join(sorted(unknown))}")
    pairs = {name: pair for name, pair in pairs.items() if name in (args.preset or pairs)}
    rungs = args.num_steps or [settings.recipe.num_steps]
    seeds = unused(FIRST_EVALUATION_SEED, args.evaluation_seeds, settings)
    training = unused(FIRST_TRAINING_SEED, args.training_seeds, settings)
    num_samples = args.num_samples or settings.evaluation.num_samples
    schedules = dict.fromkeys(entry.depths for pair in pairs.values() for entry in pair)
    start = settings.profile.start if settings.profile is not None else "pretrained"
    jobs = {
        (depths, rung, seed): Job(
            depths=depths,
            num_steps=rung,
            training_seed=seed,
            evaluation_seeds=seeds,
            num_samples=num_samples,
            start=start,
        )
        for rung in rungs
        for seed in training
        for depths in schedules
    }
    rows = args.rows or folder.root / "training_seeds.jsonl"
    known = measure_all(jobs.values(), folder.root, rows, args.jobs)

    def collected(field: str) -> Fids:
        return {
            (depths, rung): [known[jobs[depths, rung, seed].key][field] for seed in training]
            for rung in rungs
            for depths in schedules
        }

    tuned = ""
    if settings.profile is not None and start == "shared":
        tuned = (
            f"From weights tuned for {settings.profile.num_steps} shared steps, anew for every "
            "training seed. "
        )
    measured = [known[job.key] for job in jobs.values()]
    features = measured[0]["features"]
    # Rows of older versions have no auditor's FID.
    judged = sum("audit_fids" in row for row in measured)
    auditor = measured[0]["audit_features"] if judged == len(measured) else None
    if 0 < judged < len(measured):
        print(
            f"no auditor's verdict: {len(measured) - judged} rows of {rows} have no FID of its",
            file=sys.stderr,
        )
    audit = f", audit: of the same images by {auditor}" if auditor else ""
    protocol = (
        f"{tuned}FID ({features}, n={num_samples}){audit}, {args.training_seeds} training x "
        f"{args.evaluation_seeds} evaluation seeds that the run did not use, paired; 95 % "
        f"intervals over both kinds of seeds, spread moderated over the rows. Latencies as "
        f"measured in the run, {settings.solver.name} {settings.solver.num_steps} steps, batch "
        f"{settings.evaluation.latency_batch}."
    )
    fids, audited = collected("fids"), collected("audit_fids") if auditor else None
    tables = [verdict_table(pairs, fids, rung, protocol, audited) for rung in rungs]
    print("\n".join(table.to_markdown() for table in tables))
    if args.json:
        write_text(args.json, json.dumps([asdict(table) for table in tables], indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
