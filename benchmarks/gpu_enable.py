"""Cost of `schedsearch.enable` on a PixArt, and what schedules save.

    python -m benchmarks.gpu_enable --output gpu_enable.jsonl --minutes 6

PixArt-XL/2 at 512 px with random weights, bfloat16, batch 8, 20 calls; eager, then with compiled
blocks. Each round times the plain model and the model enabled at full depth, with a schedule that
saves 14 % of the blocks, and with D3, in random order. The same command goes on with the rows that
the file lacks. Beside the packages of `benchmarks.gpu_latency` it needs diffusers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import schedsearch
from benchmarks.gpu_rows import GpuRow
from schedsearch.backbones.devices import require_device
from schedsearch.diffusion.solvers.times import ddim_times
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.latency_protocol import device_name
from schedsearch.evaluation.latency_rounds import summarise
from schedsearch.runs.journal import Journal
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, preset_for, scale_schedule

PLAIN = "plain"
"""The model without a schedule, the baseline of all rows."""

SAVES_14 = ExitSchedule((28, 28, 28, 27, 25, 24, 22, 21, 20, 18))
"""Saves 14 % of 28 blocks where calls are equally spaced."""

NUM_TOKENS, CAPTION_WIDTH = 120, 4096
"""Caption tokens of PixArt, and T5's width."""

MODES = ("eager", "blocks")
"""``blocks``: with each block compiled, which cannot be undone, so it comes last."""

HEAD_WIDTH = 72
"""Width of an attention head of PixArt."""


def schedules_for(num_blocks: int) -> dict[str, ExitSchedule | None]:
    """The rows by name; None is the plain model."""
    return {
        PLAIN: None,
        FULL: ExitSchedule.flat(num_blocks),
        "saves-14": scale_schedule(SAVES_14, old=28, new=num_blocks),
        "D3-DiT": preset_for("D3-DiT", num_blocks),
    }


def ideal_share(schedule: ExitSchedule | None, args: argparse.Namespace) -> float:
    """Share of the blocks that a run of all calls executes."""
    if schedule is None:
        return 1.0
    depths = [schedule.depth_at(t) for t in ddim_times("linspace", args.num_steps)]
    return sum(depths) / (args.num_steps * args.blocks)


def build_model(args: argparse.Namespace) -> nn.Module:
    """The transformer with random weights, on the device."""
    from diffusers import PixArtTransformer2DModel

    torch.manual_seed(0)
    with torch.device(require_device(args.device)):
        model: nn.Module = PixArtTransformer2DModel(
            num_layers=args.blocks,
            num_attention_heads=args.heads,
            cross_attention_dim=HEAD_WIDTH * args.heads,
            sample_size=args.latent_size,
            caption_channels=CAPTION_WIDTH,
            use_additional_conditions=False,
        )
    return model.to(getattr(torch, args.dtype)).eval().requires_grad_(False)


def compile_blocks(model: nn.Module, backend: str) -> None:
    """Compile each block; diffusers' PixArt lacks ``compile_repeated_blocks``."""
    for block in model.get_submodule("transformer_blocks").children():
        block.compile(backend=backend)


def build_run(model: nn.Module, args: argparse.Namespace) -> Callable[[], None]:
    """All calls of one sampling run, fed as a pipeline feeds them."""
    weight = next(model.parameters())
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    side = args.latent_size
    latents = torch.randn(args.batch, 4, side, side, **like)
    caption = torch.randn(args.batch, NUM_TOKENS, CAPTION_WIDTH, **like)
    times = torch.tensor(ddim_times("linspace", args.num_steps), device=weight.device)

    def run() -> None:
        for t in times:
            model(latents, caption, timestep=t[None].expand(args.batch))

    return run


def time_rounds(
    model: nn.Module,
    run: Callable[[], None],
    schedules: Mapping[str, ExitSchedule | None],
    repeats: int,
) -> dict[str, list[float]]:
    """Milliseconds of a run by row, one per round; enabling itself is not timed."""
    clock, rng = build_clock(next(model.parameters()).device), np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in schedules}
    for index in range(clock.num_warmups + repeats):
        for name in rng.permutation(list(schedules)).tolist():
            schedule = schedules[name]
            scope = nullcontext() if schedule is None else schedsearch.enabled(model, schedule)
            with scope, torch.inference_mode():
                ms = clock.time_ms(run)
                check_depths(model, schedule)
            if index >= clock.num_warmups:
                times[name].append(ms)
    return times


def check_depths(model: nn.Module, schedule: ExitSchedule | None) -> None:
    """Refuse a time that is not of the schedule's blocks."""
    if schedule is None:
        return
    ran = schedsearch.summary(model).calls
    if not ran or set(ran) - set(schedule.depths):
        raise RuntimeError(f"The schedule {schedule} ran calls of {dict(ran)} blocks.")


def protocol_of(model: nn.Module, args: argparse.Namespace, mode: str) -> dict[str, Any]:
    """What the rows of a mode have in common."""
    return {
        "device": device_name(next(model.parameters()).device),
        "dtype": args.dtype,
        "batch": args.batch,
        "num_steps": args.num_steps,
        "mode": mode,
    }


def measure(
    model: nn.Module,
    schedules: Mapping[str, ExitSchedule | None],
    args: argparse.Namespace,
    mode: str,
) -> Iterator[GpuRow]:
    """Time some rows of one mode, with the plain model beside them."""
    timed = {PLAIN: None, **schedules}
    times = time_rounds(model, build_run(model, args), timed, args.repeats)
    found = summarise(times, PLAIN)
    for name in schedules:
        yield GpuRow(
            model=model_of(args),
            row=name,
            protocol=protocol_of(model, args, mode),
            ms=found[name].median_ms,
            ratio=1.0 - found[name].acceleration,
            half_width=found[name].acceleration_half_width,
            full_ms=found[PLAIN].median_ms,
            repeats=args.repeats,
            torch=torch.__version__,
        )


def model_of(args: argparse.Namespace) -> str:
    """Name of the model by its size."""
    return f"PixArt, {args.blocks} blocks, {args.heads} heads, latents {args.latent_size}"


def table_of(rows: Sequence[GpuRow], args: argparse.Namespace) -> str:
    """Markdown: time as a share of the plain model's, beside the share of the blocks."""
    modes = sorted({row.protocol["mode"] for row in rows}, reverse=True)
    lines = ["| row | blocks run | " + " | ".join(modes) + " |", "|---|---|" + "---|" * len(modes)]
    for name, schedule in schedules_for(args.blocks).items():
        cells = []
        for mode in modes:
            at = [row for row in rows if (row.row, row.protocol["mode"]) == (name, mode)]
            text = "-" if not at else f"{at[-1].ratio:.4f} ± {at[-1].half_width:.4f}"
            cells.append(f"{at[-1].ms:.1f} ms" if at and name == PLAIN else text)
        lines.append(f"| {name} | {ideal_share(schedule, args):.4f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Cost of schedsearch.enable on a GPU.")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines; resumes")
    parser.add_argument("--minutes", type=float, default=6.0, help="start no mode after that")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--modes", nargs="+", default=["eager", "blocks"], choices=MODES)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--num-steps", type=int, default=20, help="calls of the model")
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--blocks", type=int, default=28)
    parser.add_argument("--heads", type=int, default=16, help="of width 72")
    parser.add_argument("--latent-size", type=int, default=64, help="side of a latent; 64: 512 px")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the table."""
    args = build_parser().parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    journal = Journal(args.output, GpuRow.from_json, checked=False)
    journal.repair()
    model = build_model(args)
    for mode in sorted(args.modes, key=MODES.index):
        protocol = protocol_of(model, args, mode)
        done = {
            row.row
            for row in journal.read()
            if (row.model, row.protocol) == (model_of(args), protocol)
        }
        rows = schedules_for(args.blocks)
        missing = {name: schedule for name, schedule in rows.items() if name not in done}
        if not missing:
            continue
        if time.monotonic() > deadline:
            print(f"time is up before {mode}: {', '.join(missing)}", file=sys.stderr)
            break
        if mode == "blocks":
            compile_blocks(model, args.backend)
        for row in measure(model, missing, args, mode):
            journal.append(row)
            print(row.to_json(), file=sys.stderr, flush=True)
    print(table_of([row for row in journal.read() if row.model == model_of(args)], args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
