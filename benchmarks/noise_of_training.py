"""How much the training seed decides, by the numbers of the fine-tune.

    python -m benchmarks.noise_of_training digits_dit --pair "D7-DiT=10 9 8 8 8 8 3 2 2 2" --variant recipe.batch_size=128

The schedules of each pair are fine-tuned and measured with the same training seeds, which no run
here used, and one evaluation seed: with the space's own recipe and with every variant of it. A
difference that varies little from one fine-tune to the next needs few of them to be sure of. Rows
are kept as soon as they are measured; the same command goes on where it was cut off.
"""  # noqa: E501 - a command is one line

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.result_tables import Row, Table
from benchmarks.retraining import Job, exit_code_of, measure_all
from schedsearch.config import dump_settings, num_exit_blocks_of, read_settings
from schedsearch.files.atomic import write_text
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.argument import resolve_schedule

FIRST_TRAINING_SEED, EVALUATION_SEED = 100, 900

OWN = "its own"
"""The space's recipe as it is."""

Pair = tuple[str, str]
"""Two schedules as they were given; the second one is compared with the first."""

Fids = Mapping[str, NDArray[np.float64]]
"""By schedule: one FID per training seed, (T >= 2,)."""


def noise_row(variant: str, fids: Fids, pairs: list[Pair], seconds: float) -> Row:
    """What one recipe's fine-tunes vary by.

    Args:
        variant: Its name.
        fids: Of all schedules of the pairs, at the same seeds.
        pairs: What is compared.
        seconds: Of one fine-tune.
    """
    values = np.stack(list(fids.values()))
    row: Row = {
        "recipe": variant,
        "seconds": seconds,
        "fid": float(values.mean()),
        "fid_sd": float(np.sqrt(values.var(axis=1, ddof=1).mean())),
    }
    for number, (first, second) in enumerate(pairs, 1):
        apart = fids[second] - fids[first]
        row[f"pair_{number}"] = f"{apart.mean():+.4f} (sd {apart.std(ddof=1):.4f})"
    return row


def pair_of(text: str) -> Pair:
    """``FIRST=SECOND``."""
    first, separator, second = text.partition("=")
    if not (separator and first.strip() and second.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair SCHEDULE=SCHEDULE")
    return first.strip(), second.strip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noise_of_training",
        description=(__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument("space", nargs="?", default="digits_dit")
    parser.add_argument("--pair", type=pair_of, action="append", required=True)
    parser.add_argument(
        "--variant", action="append", default=[], metavar="KEY=VALUE", help="of the recipe"
    )
    parser.add_argument("--training-seeds", type=int, default=8)
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, default=Path("runs/noise_of_training"))
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args(arguments)
    if args.training_seeds < 2:
        parser.error("a spread needs two training seeds or more")
    names = list(dict.fromkeys(name for pair in args.pair for name in pair))
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + args.training_seeds)
    rows, features = [], ""
    for variant in [None, *args.variant]:
        settings = read_settings(args.space, [] if variant is None else [variant])
        depth = num_exit_blocks_of(settings.backbone) or settings.space.max_depth
        jobs = {
            (name, seed): Job(
                depths=resolve_schedule(name, num_exit_blocks=depth).depths,
                num_steps=settings.recipe.num_steps,
                training_seed=seed,
                evaluation_seeds=(EVALUATION_SEED,),
                num_samples=args.num_samples,
            )
            for name in names
            for seed in seeds
        }
        folder = RunFolder(args.output / (variant or "own").replace("=", "_"))
        folder.root.mkdir(parents=True, exist_ok=True)
        write_text(folder.space_file, dump_settings(settings))
        known = measure_all(jobs.values(), folder.root, folder.root / "rows.jsonl", args.jobs)
        found = {key: known[job.key] for key, job in jobs.items()}
        fids = {name: np.array([found[name, s]["fids"][0] for s in seeds]) for name in names}
        seconds = float(np.median([row["finetune_seconds"] for row in found.values()]))
        rows.append(noise_row(variant or OWN, fids, args.pair, seconds))
        features = next(iter(found.values()))["features"]
    columns = {"recipe": "", "seconds": ".1f", "fid": ".3f", "fid_sd": ".3f"}
    columns |= {f"pair_{number}": "" for number, _ in enumerate(args.pair, 1)}
    compared = "; ".join(
        f"pair_{number}: {second} - {first}" for number, (first, second) in enumerate(args.pair, 1)
    )
    table = Table(
        title=f"Noise of fine-tunes over {len(seeds)} training seeds",
        note=f"FID ({features}, n={args.num_samples}), evaluation seed {EVALUATION_SEED}: its "
        "mean over schedules and training seeds and its standard deviation over the latter; mean "
        "and standard deviation over training seeds of paired differences. Seconds of one "
        f"fine-tune, median. {compared}.",
        columns=columns,
        rows=rows,
    )
    print(table.to_markdown())
    if args.json:
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
