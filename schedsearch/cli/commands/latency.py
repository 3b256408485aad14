"""``schedsearch latency``: measured and predicted latency of exit schedules."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schedsearch.cli.arguments import (
    add_device,
    add_format,
    add_overrides,
    add_space,
    count,
    print_json,
    thread_count,
)

if TYPE_CHECKING:
    from schedsearch.evaluation.latency_protocol import LatencyProtocol
    from schedsearch.evaluation.latency_rounds import LatencyMeasurement
    from schedsearch.evaluation.latency_table import LatencyTable
    from schedsearch.protocols import Solver
    from schedsearch.schedules.exit_schedule import ExitSchedule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``latency``."""
    add_space(parser)
    add_overrides(parser)
    parser.add_argument(
        "--schedule",
        dest="schedules",
        metavar="FILE|PRESET|full",
        action="append",
        default=[],
        help="exit schedule to compare with full depth: a schedule file, a preset, or depths "
        "separated by commas; may be repeated (default: the presets of U-ViT for a U-ViT, those "
        "of DiT for any other family)",
    )
    parser.add_argument(
        "--batch",
        dest="batches",
        metavar="B",
        type=count,
        action="append",
        default=[],
        help="batch size in images; may be repeated (default: evaluation.latency_batch)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=thread_count,
        default=1,
        help="CPU threads (default: %(default)s)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network's blocks with torch.compile (default: "
        "evaluation.latency_compile)",
    )
    add_device(parser)
    add_format(parser, "table", "json")


def take_action(args: argparse.Namespace) -> int:
    """Measure and print latencies."""
    from schedsearch.backbones.devices import require_device
    from schedsearch.backbones.guidance import learns_variance
    from schedsearch.backbones.weights.checkpoint import load_backbone_from
    from schedsearch.config import read_model_settings
    from schedsearch.config.backbone_rules import shipped_family
    from schedsearch.diffusion.process import build_process
    from schedsearch.diffusion.solvers import build_solver
    from schedsearch.evaluation.latency_protocol import latency_protocol
    from schedsearch.memory import require_memory, within_memory
    from schedsearch.schedules.argument import resolve_schedule
    from schedsearch.schedules.hand_made import HAND_MADE, MOVED

    settings = read_model_settings(args.space, args.overrides)
    net: Any = load_backbone_from(settings.backbone, require_device(args.device))
    solver = build_solver(
        settings.solver,
        build_process(settings.diffusion),
        learned_variance=learns_variance(net),
    )
    family = shipped_family(settings.backbone)
    suffix = "-U-ViT" if family == "uvit" else "-DiT"
    moved = MOVED if settings.diffusion.process == "flow" else ""
    names = args.schedules or [name + moved for name in HAND_MADE if name.endswith(suffix)]
    space = settings.space
    schedules = {
        name: resolve_schedule(
            name,
            num_exit_blocks=net.num_exit_blocks,
            num_intervals=10 if space is None else space.num_intervals,
            edges=None if space is None else space.interval_edges,
            clock=settings.diffusion.clock,
            family=family,
        )
        for name in names
    }
    rows = []
    for batch in args.batches or [settings.evaluation.latency_batch]:
        evaluation = dataclasses.replace(
            settings.evaluation,
            latency_batch=batch,
            latency_compile=args.compile or settings.evaluation.latency_compile,
        )
        named = f"--batch {batch}" if args.batches else f"evaluation.latency_batch {batch}"
        require_memory(4 * batch * math.prod(net.in_shape), named)
        with within_memory(named):
            protocol = latency_protocol(net, settings.solver, evaluation, args.threads)
            found = _measure(net, solver, protocol, evaluation.latency_repeats, schedules)
        if args.format == "table":
            _print_tables(found)
        rows += found.as_rows()
    if args.format == "json":
        print_json(rows)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Latencies:
    """Latencies of one batch size."""

    protocol: LatencyProtocol
    repeats: int
    fitted: LatencyTable
    schedules: dict[str, ExitSchedule]
    measured: Mapping[str, LatencyMeasurement]
    predicted: dict[str, float]
    """Milliseconds per batch by the fitted table."""

    def as_rows(self) -> list[dict[str, Any]]:
        """One object per schedule, with its protocol."""
        return [
            {
                "name": name,
                "depths": list(schedule.depths),
                "latency_ms": self.measured[name].median_ms,
                "latency_half_width_ms": self.measured[name].half_width_ms,
                "predicted_latency_ms": self.predicted[name],
                "acceleration": self.measured[name].acceleration,
                **self.protocol.to_dict(),
            }
            for name, schedule in self.schedules.items()
        ]


def _measure(
    net: Any,
    solver: Solver,
    protocol: LatencyProtocol,
    repeats: int,
    schedules: Mapping[str, ExitSchedule],
) -> _Latencies:
    """Measure the table and whole runs of one batch size."""
    from schedsearch.evaluation.latency import BASELINE, cost_times, measure_interleaved
    from schedsearch.evaluation.latency_table import measure_table
    from schedsearch.schedules.exit_schedule import ExitSchedule

    # NOTE: A U-ViT also has depth 0; measure it only if a schedule visits it.
    lowest = min(1, *(min(schedule.depths) for schedule in schedules.values()))
    fitted = measure_table(net, solver, protocol, repeats=repeats, min_depth=lowest)
    named = {BASELINE: ExitSchedule.flat(net.num_exit_blocks), **schedules}
    return _Latencies(
        protocol=protocol,
        repeats=repeats,
        fitted=fitted,
        schedules=named,
        measured=measure_interleaved(net, named, solver, protocol, repeats=repeats),
        predicted={n: fitted.predict(s, cost_times(solver)) for n, s in named.items()},
    )


def _print_tables(found: _Latencies) -> None:
    from rich.table import Table

    from schedsearch.report.console import result_console

    protocol, fitted = found.protocol, found.fitted
    console = result_console()
    console.print(
        f"{protocol.device}, {protocol.arithmetic}, batch {protocol.batch}, {protocol.threads} "
        f"CPU thread(s), {protocol.solver} with {protocol.num_steps} steps, cfg_scale "
        f"{protocol.cfg_scale:g}, {found.repeats} rounds",
        highlight=False,
    )
    calls = Table(title="one network call, by exit depth")
    for title in ("depth", "measured, ms", "fit, ms"):
        calls.add_column(title, justify="right")
    for depth, ms in fitted.depth_ms.items():
        calls.add_row(str(depth), f"{ms:.3f}", f"{fitted.a_ms + fitted.b_ms * depth:.3f}")
    console.print(calls)
    console.print(
        f"T = {fitted.c0_ms:.2f} + sum over {fitted.num_calls} calls of ({fitted.a_ms:.3f} + "
        f"{fitted.b_ms:.3f} depth) ms; mean residual {fitted.mean_residual:.1%}",
        highlight=False,
    )
    runs = Table(title="sampling one batch")
    runs.add_column("schedule")
    runs.add_column("blocks, data → noise")
    for title in ("measured, ms", "predicted, ms", "saved"):
        runs.add_column(title, justify="right")
    for name, schedule in found.schedules.items():
        m = found.measured[name]
        runs.add_row(
            name,
            str(schedule),
            f"{m.median_ms:.1f} ± {m.half_width_ms:.1f}",
            f"{found.predicted[name]:.1f}",
            f"{m.acceleration:.1%}",
        )
    console.print(runs)
