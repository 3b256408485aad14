"""Time of other methods on a GPU, as shares of full depth's.

    python -m benchmarks.gpu_latency --output gpu_latency.jsonl --minutes 9

DiT-XL/2 with random weights, bfloat16, DDIM with 50 steps, batch 8, 64 and 1: D3, D7, DeeDiff with
recorded exits, FORA every second step, token merging, fewer steps, plans. Rounds interleave each
group of rows with full depth. The same command goes on with the rows that the file lacks. It needs
torch, timm, pydantic, numpy and scipy, but neither Optuna, Ray, diffusers nor clean-fid.

For plans with guidance: ``--batches 8 32 --cfg-scale 1.5``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from benchmarks.gpu_rows import FULL, GpuRow, table_of
from benchmarks.paper_timings import fill_zero_matrices
from benchmarks.recorded_exits import FILE, Recording
from schedsearch.backbones.devices import require_device
from schedsearch.backbones.registry import build_backbone
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.latency_protocol import LatencyProtocol, device_name
from schedsearch.evaluation.latency_rounds import whole_runs
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.plans.plan import Plan, map_name
from schedsearch.methods.plans.steps import FULL_STEP, Fit, PlanStep
from schedsearch.methods.token_merging import TokenMerging
from schedsearch.protocols import Backbone, NetworkCall, ObservedCall, Solver, StagedBackbone
from schedsearch.runs.journal import Journal
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import preset_for
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings

PLANS: tuple[tuple[float, Fit], ...] = (
    (0.62, "diagonal"),
    (0.45, "diagonal"),
    (0.35, "diagonal"),
    (0.45, "map"),
)
"""Shares of full steps, and how reused residuals are corrected."""

MERGED = (0.2, 0.6)
"""Shares of the tokens that attention merges, in all blocks."""

DEEDIFF = "deediff-recorded"
FIRST = (FULL, "D3-DiT", "D7-DiT")
"""Rows of the first group of a batch size; the others follow in a second one."""


@dataclass(frozen=True)
class Bench:
    """Networks, solvers and methods of all rows."""

    args: argparse.Namespace
    net: Backbone
    uncertain: Backbone
    """The same network with DeeDiff's module."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Bench:
        """Build the networks on the device."""
        device, dtype = require_device(args.device), getattr(torch, args.dtype)
        config = {} if args.input_size is None else {"input_size": args.input_size}
        settings = BackboneSettings(name=args.model, config=config)
        net = build_backbone(settings).to(device, dtype).eval()
        uncertain = WithUncertainty.of(net).eval()
        for module in (net, uncertain):
            fill_zero_matrices(module, device)
        return cls(args, cast(Backbone, net), cast(Backbone, uncertain))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(cast(nn.Module, self.net).parameters()).device

    def solver(self, num_steps: int) -> Solver:
        """DDIM with a number of steps."""
        settings = SolverSettings(name="ddim", num_steps=num_steps)
        return build_solver(settings, build_process(DiffusionSettings()), learned_variance=True)

    def protocol(self, batch: int) -> LatencyProtocol:
        """What the rows of a batch size have in common."""
        return LatencyProtocol(
            device=device_name(self.device),
            dtype=self.args.dtype,
            batch=batch,
            threads=torch.get_num_threads(),
            solver="ddim",
            num_steps=self.args.num_steps,
            spacing="linspace",
            cfg_scale=self.args.cfg_scale,
        )

    def methods(self) -> dict[str, TimedMethod]:
        """All rows but full depth, by name."""
        blocks, steps = self.net.num_exit_blocks, self.args.num_steps
        solver, few = self.solver(steps), self.args.fewer_steps
        recorded = Recording.read(self.args.recording).scaled(steps, blocks)
        found = {
            name: TimedMethod(net=self.net, method=preset_for(name, blocks), solver=solver)
            for name in FIRST[1:]
        }
        found[DEEDIFF] = TimedMethod(net=self.uncertain, method=recorded, solver=solver)
        found["fora-2"] = TimedMethod(net=self.net, method=BlockCache(every=2), solver=solver)
        for ratio in MERGED:
            method = TokenMerging(blocks="all", ratio=ratio)
            found[f"tome-{ratio:g}"] = TimedMethod(net=self.net, method=method, solver=solver)
        full = ExitSchedule.flat(blocks)
        found[f"steps-{few}"] = TimedMethod(net=self.net, method=full, solver=self.solver(few))
        width = cast(StagedBackbone, self.net).width
        for share, fit in PLANS:
            plan = even_plan(share, steps, width, fit)
            name = f"plan-{share:g}-{fit}"
            found[name] = TimedMethod(net=self.net, method=plan, solver=solver)
        return found

    def measure(self, names: Sequence[str], batch: int) -> Iterator[GpuRow]:
        """Time some rows of one batch size, interleaved with full depth."""
        every, protocol = self.methods(), self.protocol(batch)
        # NOTE: full depth is the baseline of any group; alone it is measured against itself.
        full = TimedMethod(
            net=self.net,
            method=ExitSchedule.flat(self.net.num_exit_blocks),
            solver=self.solver(self.args.num_steps),
        )
        timed = {name: every[name] for name in names if name != FULL} or {FULL: full}
        found = measure_methods(
            timed,
            self.net,
            full.solver,
            protocol,
            repeats=self.args.repeats,
        )
        first = next(iter(found.values()))
        for name in names:
            of_full = name == FULL
            held, maps = (0, 0) if of_full else self.memory(every[name], batch)
            yield GpuRow(
                model=model_of(self.args),
                row=name,
                protocol=protocol.to_dict(),
                ms=first.full_ms if of_full else found[name].ms,
                ratio=1.0 if of_full else found[name].ratio,
                half_width=0.0 if of_full else found[name].half_width,
                full_ms=first.full_ms,
                held_mb=round(held / 1e6, 3),
                map_mb=round(maps / 1e6, 3),
                repeats=self.args.repeats,
                torch=torch.__version__,
            )

    def memory(self, timed: TimedMethod, batch: int) -> tuple[int, int]:
        """Bytes kept between the steps of a run, and bytes of a plan's numbers."""
        runs: list[NetworkCall] = []
        noise = starting_noise(0, batch, timed.net.in_shape)
        labels = balanced_labels(batch, timed.net.num_classes)
        scale = self.args.cfg_scale
        with torch.inference_mode():
            generate(
                timed.net,
                timed.method,
                timed.solver,
                noise,
                labels,
                batch,
                cfg_scale=scale,
                observe=runs.append,
            )
        held = max((run.peak_bytes for run in runs if isinstance(run, ObservedCall)), default=0)
        maps = timed.method.maps.values() if isinstance(timed.method, Plan) else ()
        return held, sum(numbers.nbytes for numbers in maps)


def model_of(args: argparse.Namespace) -> str:
    """Name of the network, with the side of its latents where it is not the usual one."""
    name: str = args.model
    return name if args.input_size is None else f"{name} at {args.input_size}"


def even_plan(share: float, num_steps: int, width: int, fit: Fit) -> Plan:
    """A plan of evenly spaced full steps; the others reuse the residual.

    Its numbers are random, because only its time counts.

    Args:
        share: Share of the steps that run all blocks.
        num_steps: Network calls.
        width: Width D of a token.
        fit: How the residual is corrected.
    """
    count = max(1, round(share * num_steps))
    full = {round(index * num_steps / count) for index in range(count)}
    reuse = PlanStep("reuse", 0, fit)
    steps = tuple(FULL_STEP if step in full else reuse for step in range(num_steps))
    rows = {"plain": 0, "diagonal": 3, "map": 2 * width + 1}[fit]
    generator = torch.Generator().manual_seed(0)
    numbers = 0.02 * torch.randn(rows, width, generator=generator)
    names = [map_name(step, choice) for step, choice in enumerate(steps) if choice.is_fitted]
    return Plan(steps, dict.fromkeys(names, numbers))


def groups_of(bench: Bench) -> Iterator[tuple[int, list[str]]]:
    """Batch sizes with rows that are timed together, the most useful first."""
    others = [name for name in bench.methods() if name not in FIRST]
    for batch in bench.args.batches:
        yield batch, list(FIRST)
        yield batch, others


def predicted_seconds(bench: Bench, rows: Sequence[GpuRow], batch: int, num: int) -> float:
    """What a group will take, by the times of full depth so far, or 0."""
    known = {row.protocol["batch"]: row.full_ms for row in rows}
    if not known:
        return 0.0
    full_ms = known.get(batch) or max(ms * max(1.0, batch / b) for b, ms in known.items())
    return (num + 1) * whole_runs(build_clock(bench.device), bench.args.repeats) * full_ms / 1000


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time of other methods on a GPU.")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines; resumes")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop by then")
    parser.add_argument("--model", default="DiT-XL/2", help="a DiT of the registry")
    parser.add_argument("--input-size", type=int, help="side of a latent (default: the model's)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64, 1])
    parser.add_argument("--num-steps", type=int, default=50, help="DDIM steps of full depth")
    parser.add_argument("--fewer-steps", type=int, default=35)
    parser.add_argument("--cfg-scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--recording", type=Path, default=FILE, help="exits of DeeDiff")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the table."""
    args = build_parser().parse_args(argv)
    deadline = time.monotonic() + 60 * args.minutes
    journal = Journal(args.output, GpuRow.from_json, checked=False)
    journal.repair()
    bench = Bench.of(args)
    for batch, names in groups_of(bench):
        rows, protocol = journal.read(), bench.protocol(batch).to_dict()
        done = {row.row for row in rows if (row.model, row.protocol) == (model_of(args), protocol)}
        missing = [name for name in names if name not in done]
        if not missing:
            continue
        seconds = predicted_seconds(bench, rows, batch, len(missing))
        if time.monotonic() + seconds > deadline:
            print(f"time is up before batch {batch}: {', '.join(missing)}", file=sys.stderr)
            break
        try:
            measured = list(bench.measure(missing, batch))
        except torch.OutOfMemoryError as error:
            print(f"batch {batch} does not fit: {error}", file=sys.stderr)
            continue
        for row in measured:
            journal.append(row)
            print(row.to_json(), file=sys.stderr, flush=True)
    print(table_of([row for row in journal.read() if row.model == model_of(args)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
