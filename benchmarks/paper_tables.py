"""Sizes, costs and accelerations beside the papers' numbers; needs no trained weights.

    python -m benchmarks.paper_tables                       # what this machine can measure
    python -m benchmarks.paper_tables --parts parameters,flops,savings
    python -m benchmarks.paper_tables --device cuda --json results/paper_tables_cuda.json

Run in the repository root. Tables go to the JSON file as soon as they are measured, with a
Markdown page beside it. The same command resumes; ``--fresh`` measures the named parts again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.paper_counts import dit_savings, flops_table, parameters_table, u_vit_savings
from benchmarks.paper_numbers import DIT_SCHEDULES, DIT_XL, U_VIT_CELEBA, U_VIT_SCHEDULES
from benchmarks.paper_timings import Run, acceleration_table, diffusers_table
from benchmarks.paper_training import training_table
from benchmarks.result_tables import ResultFile, Table
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings

RESULTS = Path(__file__).parent / "results"
TITLE = "Paper tables"
INTRODUCTION = """\
Do our networks have the papers' sizes and costs, and do exit schedules save the promised time?

Limits:

* Weights are random, so nothing here is an FID.
* On a CPU the timings use 10 solver steps and batches of 1 or 2. ASE timed an A100, so compare
  the shares of time saved, not the milliseconds."""
PARTS = ("parameters", "flops", "savings", "time", "diffusers", "training")
DIT_XL_CONFIG = {
    "input_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "num_classes": 1000,
    "learn_sigma": True,
}
NEEDS_A_GPU = "needs a CUDA device"

Planned = tuple[str, Callable[[], Table] | str]
"""Key of a table, with its measurement or the reason why it is left out."""


def dit_run(batch: int, repeats: int, *, num_steps: int, dtype: str) -> Run:
    """Sampling of DiT-XL/2: DDIM with guidance."""
    return Run(
        model="DiT-XL/2",
        backbone=DIT_XL,
        schedules=DIT_SCHEDULES,
        diffusion=DiffusionSettings(),
        solver=SolverSettings(name="ddim", num_steps=num_steps, cfg_scale=1.5, cfg_channels=3),
        batch=batch,
        dtype=dtype,
        repeats=repeats,
    )


def u_vit_run(batch: int, repeats: int, *, num_steps: int, dtype: str) -> Run:
    """Sampling of U-ViT-S/4: Euler-Maruyama as in the paper, with uniform steps."""
    return Run(
        model="U-ViT-S/4 CelebA-64",
        backbone=U_VIT_CELEBA,
        schedules=U_VIT_SCHEDULES,
        diffusion=DiffusionSettings(betas="vp"),
        solver=SolverSettings(name="euler_maruyama", num_steps=num_steps),
        batch=batch,
        dtype=dtype,
        repeats=repeats,
    )


def plan(parts: list[str], device: torch.device, repeats: int | None) -> Iterator[Planned]:
    """The tables of some parts, cheap ones first."""
    on_gpu = device.type == "cuda"
    rounds = repeats or (9 if on_gpu else 3)
    if "parameters" in parts:
        yield "parameters", parameters_table
    if "flops" in parts:
        yield "flops", flops_table
    if "savings" in parts:
        yield "savings/dit", dit_savings
        yield "savings/u-vit", u_vit_savings
    if "time" in parts:
        dtype, steps = ("bfloat16", 50) if on_gpu else ("float32", 10)
        for batch in (32, 8) if on_gpu else (1,):
            run = dit_run(batch, rounds, num_steps=steps, dtype=dtype)
            yield f"time/DiT-XL/2/batch {batch}", _time(run, device)
        for batch in (256, 32, 8) if on_gpu else (2,):
            run = u_vit_run(batch, rounds, num_steps=steps, dtype=dtype)
            yield f"time/U-ViT-S/4/batch {batch}", _time(run, device)
    if "diffusers" in parts:
        yield "diffusers", _diffusers(device, rounds)
    if "training" in parts:
        for model, backbone, schedules, batch in (
            ("DiT-XL/2", DIT_XL, DIT_SCHEDULES, 32),
            ("U-ViT-S/4", U_VIT_CELEBA, U_VIT_SCHEDULES, 128),
        ):
            step = _training(model, backbone, schedules, batch, device, rounds)
            yield f"training/{model}", step if on_gpu else NEEDS_A_GPU


def _time(run: Run, device: torch.device) -> Callable[[], Table]:
    return lambda: acceleration_table(run, device)


def _diffusers(device: torch.device, repeats: int) -> Callable[[], Table]:
    on_gpu = device.type == "cuda"
    return lambda: diffusers_table(
        DIT_XL_CONFIG,
        device,
        model="DiT-XL/2",
        batches=(64, 16, 1) if on_gpu else (1,),
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        repeats=repeats,
        calls=10 if on_gpu else 2,
    )


def _training(
    model: str,
    backbone: BackboneSettings,
    schedules: Sequence[str],
    batch: int,
    device: torch.device,
    repeats: int,
) -> Callable[[], Table]:
    return lambda: training_table(
        backbone, schedules, device, model=model, batch=batch, repeats=repeats
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper_tables", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, help="rounds of timings; default: 9, CPU: 3")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/, by device")
    parser.add_argument("--fresh", action="store_true", help="measure --parts again")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, print the tables and write the page."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        parser.error("--device cuda: torch sees no CUDA device; use --device cpu")
    parts = args.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"--parts: unknown {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    if args.repeats is not None and args.repeats < 1:
        parser.error(f"--repeats must be >= 1, got {args.repeats}")
    device = torch.device(args.device or ("cuda" if has_cuda else "cpu"))
    path = args.json or RESULTS / f"paper_tables_{device.type}.json"
    # NOTE: without --json, whose folder belongs to one machine.
    shown = f"python -m benchmarks.paper_tables --device {device.type} --parts {args.parts}"
    if args.repeats is not None:
        shown += f" --repeats {args.repeats}"
    results = ResultFile.open(
        path,
        TITLE,
        INTRODUCTION,
        device=device,
        command=shown,
        fresh=parts if args.fresh else (),
    )
    torch.set_num_threads(1)
    for key, measurement in plan(parts, device, args.repeats):
        if isinstance(measurement, str):
            results.leave_out(key, measurement)
        else:
            results.measure(key, measurement)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    results.write()
    print(f"Written to {path} and {path.with_suffix('.md')}.", file=sys.stderr)


if __name__ == "__main__":
    main()
