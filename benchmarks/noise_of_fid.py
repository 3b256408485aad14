"""How far one evaluation seed can be trusted: FIDs with other noise, equal noise, and a control.

    python -m benchmarks.noise_of_fid RUN --seeds 8 [--num-samples 500] [--control-samples 4000]

The presets and their rivals of a finished run, with the weights of its trials, are sampled at
seeds that the run did not use. Each FID is taken plain, and corrected by control images as with
``evaluation.control_samples``, with other images for every seed: what control images miss is
noise too, though within a run all trials share it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from schedsearch.evaluation.control import Control
from torch import Tensor, nn

from benchmarks.result_tables import Row, Table
from benchmarks.retraining import exit_code_of
from benchmarks.training_seeds import FIRST_EVALUATION_SEED, unused
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.evaluation.frechet import feature_statistics, frechet_distance
from schedsearch.files.atomic import write_text
from schedsearch.protocols import Backbone
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import FrontEntry, RunResults
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.workbench import Workbench, open_workbench

Fids = NDArray[np.float64]
"""Schedules x evaluation seeds."""


def noise_row(estimate: str, fids: Fids, many: Fids, *, paired: bool = True) -> Row:
    """How one estimate of FID varies over the seeds.

    Args:
        estimate: Its name.
        fids: Of schedules, (S >= 2, E >= 2).
        many: FID of each schedule over the images of all seeds together, (S,).
        paired: Whether two schedules are compared at equal noise.
    """
    variances = fids.var(axis=1, ddof=1)
    first, second = np.triu_indices(len(fids), 1)
    of_pairs = variances[first] + variances[second]
    if paired:
        of_pairs = (fids[first] - fids[second]).var(axis=1, ddof=1)
    return {
        "estimate": estimate,
        "fid_sd": float(np.sqrt(variances.mean())),
        "difference_sd": float(np.sqrt(of_pairs.mean())),
        "above_many": float((fids.mean(axis=1) - many).mean()),
    }


def chosen_of(results: RunResults) -> list[FrontEntry]:
    """Presets and their rivals."""
    presets = results.hand_made()
    rivals = [rival for preset in presets if (rival := results.rival_of(preset)) is not None]
    return list({entry.trial: entry for entry in (*presets, *rivals)}.values())


def sampled(
    bench: Workbench, net: Backbone, depths: tuple[int, ...], seed: int, num: int
) -> Tensor:
    """Features of a network's samples."""
    return bench.measure(net, ExitSchedule(depths), seed=seed, num_samples=num).features


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noise_of_fid", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("run", help="a finished run: its folder, or its name below runs/")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--num-samples", type=int, help="default: those of the run's trials")
    parser.add_argument("--control-samples", type=int, help="default: 8 x --num-samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args(arguments)
    if args.seeds < 2:
        parser.error("a spread needs two seeds or more")
    folder = RunFolder.existing(args.run)
    results = RunResults.load(folder)
    chosen = chosen_of(results)
    if len(chosen) < 2:
        parser.error(f"{args.run} holds no preset with a contender")
    num_samples = args.num_samples or results.settings.evaluation.num_samples
    parts = -(-(args.control_samples or 8 * num_samples) // num_samples)
    seeds = unused(FIRST_EVALUATION_SEED, args.seeds * parts, results.settings)
    own, further = seeds[: args.seeds], seeds[args.seeds :]
    bench = open_workbench(folder.space_file.read_text(encoding="utf-8"), str(folder.reference))
    torch.set_num_threads(args.threads)  # the workbench takes those of a trial
    net, real = bench.fresh_backbone(), bench.reference.statistics
    full = (net.num_exit_blocks,) * results.settings.space.num_intervals
    controls = [
        Control.of(
            sampled(bench, net, full, seed, num_samples),
            [
                feature_statistics(sampled(bench, net, full, other, num_samples))
                for other in further[i :: args.seeds]
            ],
        )
        for i, seed in enumerate(own)
    ]
    plain, corrected, many = [], [], []
    for entry in chosen:
        load_weights(cast(nn.Module, net), folder.weights(entry.trial))
        samples = [sampled(bench, net, entry.depths, seed, num_samples) for seed in own]
        many.append(frechet_distance(feature_statistics(torch.cat(samples)), real))
        plain.append([frechet_distance(feature_statistics(s), real) for s in samples])
        corrected.append(
            [
                frechet_distance(control.corrected(features), real)
                for control, features in zip(controls, samples, strict=True)
            ]
        )
    uncorrected, all_images = np.array(plain), np.array(many)
    table = Table(
        title=f"Noise of FID over {len(own)} evaluation seeds",
        note=f"FID ({bench.extractor.name}, n={num_samples}) of {len(chosen)} schedules, presets "
        "and their rivals, with the weights of their trials. Standard deviations over the seeds, "
        "of one schedule's FID and of the difference of two; and how far FIDs lie above those of "
        f"{len(own) * num_samples} images. Control: {parts * num_samples} images, other ones for "
        "every seed.",
        columns={
            "estimate": "",
            "fid_sd": ".4f",
            "difference_sd": ".4f",
            "above_many": "+.3f",
        },
        rows=[
            noise_row("other noise for each schedule", uncorrected, all_images, paired=False),
            noise_row("the same noise", uncorrected, all_images),
            noise_row("the same noise and a control", np.array(corrected), all_images),
        ],
    )
    print(table.to_markdown())
    if args.json:
        write_text(args.json, json.dumps(asdict(table), indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
