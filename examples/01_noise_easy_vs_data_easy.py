"""Should a diffusion transformer drop blocks near the noise or near the data?

    python examples/01_noise_easy_vs_data_easy.py [--num-steps 100] [--output runs/noise_easy]

Repeats ASE, Fig. 1, on the shipped digits model. It compares three schedules per budget of
blocks: noise-easy (drops near the noise), data-easy (its reverse) and flat. Each is measured
before and after the fine-tune of search_spaces/digits_dit.yaml, all with the same noise. Prints
a table and paired differences; writes results.png and a grid of samples per schedule.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from schedsearch.config import dump_settings, read_settings
from schedsearch.evaluation.grid import save_grid
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.statistics.intervals import mean_interval
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.workbench import open_workbench

NOISE_EASY = {  # percentage of the 10 x 10 blocks: depths from data to noise
    80: (10, 10, 9, 9, 8, 8, 7, 7, 6, 6),
    70: (10, 10, 9, 8, 7, 7, 6, 5, 4, 4),
    60: (10, 9, 8, 7, 7, 6, 5, 4, 2, 2),
    50: (10, 8, 7, 6, 5, 4, 3, 3, 2, 2),
}
FULL = "full depth"
SHAPES = ("noise-easy", "flat", "data-easy")
COLOURS = {"noise-easy": "#0072b2", "flat": "#777777", "data-easy": "#d55e00"}


@dataclass(frozen=True)
class Job:
    """One schedule to measure."""

    share: int
    shape: str
    schedule: ExitSchedule


@dataclass(frozen=True)
class Result:
    """FIDs of one schedule, one per evaluation seed."""

    untuned: tuple[float, ...]
    tuned: tuple[float, ...]
    blocks: float
    """Blocks that the solver's steps run, as a share of full depth."""
    samples: torch.Tensor
    """First samples after the fine-tune, (N, C, H, W) uint8."""


class Silent:
    """Ignores a trainer's progress; meets schedsearch.protocols.Progress."""

    def report(self, step: int, loss: float, **values: float) -> None:
        """Report nothing."""

    def note(self, message: str) -> None:
        """Write nothing."""

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save nothing."""

    def restore(self) -> None:
        """Return no saved state."""
        return


def jobs_for(shares: Sequence[int]) -> list[Job]:
    """Return full depth, and three shapes at each budget."""
    jobs = [Job(100, FULL, ExitSchedule.flat(10))]
    for share in shares:
        depths = NOISE_EASY[share]
        jobs += [
            Job(share, "noise-easy", ExitSchedule(depths)),
            Job(share, "flat", ExitSchedule.flat(share // 10)),
            Job(share, "data-easy", ExitSchedule(depths[::-1])),
        ]
    return jobs


def measure(job: Job, settings_text: str, folder: str, seeds: range) -> Result:
    """Measure one schedule before and after its fine-tune."""
    bench = open_workbench(settings_text, folder)
    settings, net = bench.settings, bench.fresh_backbone()
    num_samples = settings.evaluation.num_samples

    def fids(network: Any) -> tuple[list[float], torch.Tensor]:
        found = [
            bench.measure(network, job.schedule, seed=seed, num_samples=num_samples)
            for seed in seeds
        ]
        return [quality.fid for quality in found], found[0].samples

    untuned, _ = fids(net)
    tuned_net = load_trainer(settings.trainer).finetune(
        net,
        ScheduleExits(job.schedule),
        bench.source,
        bench.process,
        settings.recipe,
        Silent(),
        settings.search.seed,
    )
    tuned, samples = fids(tuned_net)
    visited = job.schedule.visited(bench.solver.times)
    blocks = sum(visited) / (len(visited) * net.num_exit_blocks)
    return Result(tuple(untuned), tuple(tuned), blocks, samples)


def measure_all(jobs: Sequence[Job], num_workers: int, *study: Any) -> Iterator[Result]:
    """Results in the order of the jobs; one worker is this process."""
    if num_workers == 1:
        yield from (measure(job, *study) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = [pool.submit(measure, job, *study) for job in jobs]
        yield from (future.result() for future in futures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=100, help="fine-tune steps")
    parser.add_argument("--num-samples", type=int, default=1000, help="images per FID")
    parser.add_argument("--num-seeds", type=int, default=3, help="evaluation seeds, 2 or more")
    parser.add_argument("--shares", type=int, nargs="+", default=[80, 70, 60, 50])
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--output", type=Path, default=Path("runs/noise_easy"))
    args = parser.parse_args()
    if unknown := set(args.shares) - set(NOISE_EASY):
        parser.error(f"--shares may be {list(NOISE_EASY)}, not {sorted(unknown)}")
    if args.num_seeds < 2:
        parser.error("--num-seeds must be 2 or more: the interval is taken over them")

    # Prepare the settings.
    settings = read_settings("digits_dit", ["resources.cpus_per_trial=1"])
    settings = dataclasses.replace(
        settings,
        recipe=dataclasses.replace(settings.recipe, num_steps=args.num_steps),
        evaluation=dataclasses.replace(settings.evaluation, num_samples=args.num_samples),
    )
    args.output.mkdir(parents=True, exist_ok=True)
    folder = str((args.output / "reference").absolute())
    text, seeds = dump_settings(settings), range(args.num_seeds)
    # NOTE: computes the reference once, before the workers want it.
    _ = open_workbench(text, folder).reference

    # Measure all schedules.
    jobs, found = jobs_for(args.shares), {}
    heading = f"FID (digits CNN, n={args.num_samples}), mean of {len(seeds)} seeds"
    print(heading)
    print(f"{'budget':>6}  {'schedule':<10}  {'blocks run':>10}  {'untuned':>8}  {'tuned':>8}")
    measured = measure_all(jobs, args.workers, text, folder, seeds)
    for job, result in zip(jobs, measured, strict=True):
        found[job.share, job.shape] = result
        print(
            f"{job.share:>4} %  {job.shape:<10}  {result.blocks:>10.1%}  "
            f"{fmean(result.untuned):>8.2f}  {fmean(result.tuned):>8.2f}",
            flush=True,
        )
        name = f"{job.share}_{job.shape.replace(' ', '_')}.png"
        save_grid(result.samples, args.output / name)

    # Compare the shapes.
    print(f"\nFID(other) - FID(noise-easy), paired by seed, 95 % over {len(seeds)} seeds:")
    for share in args.shares:
        for shape in SHAPES[1:]:
            easy, other = found[share, "noise-easy"], found[share, shape]
            print(
                f"  {share} %, {shape}: untuned {verdict(shape, other.untuned, easy.untuned)}; "
                f"after {args.num_steps} steps {verdict(shape, other.tuned, easy.tuned)}"
            )
    print("One fine-tune per schedule: the intervals cover measurement noise only.")
    picture = args.output / "results.png"
    plot(found, args.shares, args.num_steps, heading, picture)
    print(f"pictures: {picture} and a grid of samples per schedule beside it")


def verdict(shape: str, other: Sequence[float], easy: Sequence[float]) -> str:
    """Describe the paired difference and its interval in words."""
    difference, (low, high) = mean_interval([o - e for o, e in zip(other, easy, strict=True)])
    if low > 0:
        words = "noise-easy is better"
    elif high < 0:
        words = f"{shape} is better"
    else:
        words = "no significant difference"
    return f"{difference:+.2f} ± {(high - low) / 2:.2f} ({words})"


def plot(
    found: Mapping[tuple[int, str], Result],
    shares: Sequence[int],
    num_steps: int,
    heading: str,
    path: Path,
) -> None:
    """Plot FID before and after the fine-tune, and samples at the smallest budget."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    # Plot the FIDs.
    figure = Figure(figsize=(10, 7.2), dpi=130, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
    panels = top.subplots(1, 2, sharey=True)
    titles = ("weights as pretrained", f"each schedule fine-tuned for {num_steps} steps")
    for axes, title, kind in zip(panels, titles, ("untuned", "tuned"), strict=True):
        full = fmean(getattr(found[100, FULL], kind))
        axes.axhline(full, color="black", linewidth=1, linestyle=":", label=FULL)
        for shape in SHAPES:
            values = [getattr(found[share, shape], kind) for share in shares]
            axes.plot(shares, [fmean(v) for v in values], "o-", color=COLOURS[shape], label=shape)
            for share, seeds in zip(shares, values, strict=True):
                axes.plot([share] * len(seeds), seeds, "_", color=COLOURS[shape], alpha=0.6)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(list(shares), [f"{share} %" for share in shares])
        axes.invert_xaxis()
        axes.set_xlabel("blocks of the schedule, share of full depth")
        axes.set_title(title, fontsize=11)
        axes.grid(alpha=0.25, which="both")
    panels[0].set_ylabel(heading, fontsize=9)
    panels[0].legend(fontsize=9)

    # Draw the samples.
    smallest = min(shares)
    rows = [(100, FULL), *((smallest, shape) for shape in SHAPES)]
    bottom.suptitle(
        f"the same noise and classes after {num_steps} steps, at {smallest} % of the blocks",
        fontsize=11,
    )
    for axes, key in zip(bottom.subplots(len(rows), 1), rows, strict=True):
        images = found[key].samples[:20, 0].numpy()
        strip = torch.full((images.shape[1], len(images) * (images.shape[2] + 1) - 1), 255)
        for i, image in enumerate(images):
            start = i * (image.shape[1] + 1)
            strip[:, start : start + image.shape[1]] = torch.from_numpy(image)
        axes.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(key[1], rotation=0, ha="right", va="center", fontsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
