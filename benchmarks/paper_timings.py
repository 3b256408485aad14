"""Time of sampling: accelerations, and a forward pass beside diffusers.

Weights are random, and zero matrices are filled: multiplying zeros draws less power, so a GPU
clocks higher and the times would be too short.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from benchmarks.result_tables import Table
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.registry import build_backbone
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.clocks import build_clock
from schedsearch.evaluation.flops import count_flops
from schedsearch.evaluation.latency import measure_interleaved
from schedsearch.evaluation.latency_protocol import LatencyProtocol, device_name
from schedsearch.evaluation.latency_rounds import Work, time_rounds
from schedsearch.protocols import Backbone
from schedsearch.schedules.hand_made import HAND_MADE, preset_for
from schedsearch.settings import BackboneSettings, DiffusionSettings, SolverSettings

GOAL_POINTS = 2.0
"""An acceleration may stay this many percentage points below the ideal one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What to time, and how."""

    model: str
    backbone: BackboneSettings
    schedules: Sequence[str]
    diffusion: DiffusionSettings
    solver: SolverSettings
    batch: int
    dtype: str
    repeats: int

    @property
    def protocol(self) -> str:
        """As the page shows it."""
        guided = self.solver.cfg_scale > 1
        guidance = f", CFG {self.solver.cfg_scale:g}" if guided else ", no guidance"
        return (
            f"{self.solver.name} {self.solver.num_steps} steps{guidance}, {self.dtype}, batch "
            f"{self.batch}, random weights, median of {self.repeats} interleaved rounds"
        )


def place(device: torch.device) -> str:
    """Name of the device and, for a CPU, its load."""
    if device.type != "cpu":
        return device_name(device)
    return f"{device_name(device)}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def random_backbone(settings: BackboneSettings, device: torch.device) -> nn.Module:
    """A backbone with random weights and no matrix of zeros, in eval mode."""
    net = build_backbone(settings).to(device).eval()
    fill_zero_matrices(net, device)
    return net


def fill_zero_matrices(net: nn.Module, device: torch.device) -> None:
    """Fill matrices of zeros with random numbers, in place."""
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.02, generator=generator)


def acceleration_table(run: Run, device: torch.device, threads: int = 1) -> Table:
    """Time saved by hand-made schedules over whole sampling runs, beside ASE's and the ideal."""
    net = random_backbone(run.backbone, device)
    backbone = cast(Backbone, net)
    process = build_process(run.diffusion)
    solver = build_solver(run.solver, process, learned_variance=learns_variance(net))
    schedules = {name: preset_for(name, backbone.num_exit_blocks) for name in run.schedules}
    protocol = LatencyProtocol(
        device=device_name(device),
        dtype=run.dtype,
        batch=run.batch,
        threads=threads,
        solver=run.solver.name,
        num_steps=run.solver.num_steps,
        spacing=run.solver.spacing,
        cfg_scale=run.solver.cfg_scale,
        cfg_channels=run.solver.cfg_channels,
    )
    found = measure_interleaved(backbone, schedules, solver, protocol, repeats=run.repeats)
    flops = count_flops(net, sorted({d for s in schedules.values() for d in s.depths}))
    is_dit = isinstance(net, DiT)
    rows = []
    for name, measured in found.items():
        schedule = schedules.get(name)
        row: dict[str, Any] = {
            "schedule": name,
            "ms": measured.median_ms,
            "ms_half_width": measured.half_width_ms,
            "unstable": "unstable" if measured.half_width_ms > 0.05 * measured.median_ms else "",
        } | dict.fromkeys(("paper", "ideal", "measured", "half_width", "margin_points"))
        if schedule is not None:
            depths = schedule.visited(solver.times)
            blocks_saved = 1 - statistics.fmean(depths) / backbone.num_exit_blocks
            ideal = blocks_saved if is_dit else flops.saving(schedule, solver.times)
            row |= {
                "paper": HAND_MADE[name].reported_acceleration,
                "ideal": ideal,
                "measured": measured.acceleration,
                "half_width": measured.acceleration_half_width,
                "margin_points": 100 * (measured.acceleration - ideal),
            }
        rows.append(row)
    ideal_is = "1 - mean depth / depth" if is_dit else "the share of FLOPs saved"
    return Table(
        title=f"Acceleration on {run.model}, batch {run.batch}",
        note=f"{place(device)}; {run.protocol}. `ideal` is {ideal_is} over the times of "
        f"the solver. Goal: `margin_points` (measured - ideal) is at least -{GOAL_POINTS:g}. "
        "Half-widths are of 95 % intervals. Paper: ASE, Tables 1 and 2, A100.",
        columns={
            "schedule": "",
            "paper": ".2%",
            "ideal": ".2%",
            "measured": ".2%",
            "half_width": ".2%",
            "margin_points": "+.2f",
            "ms": ".1f",
            "ms_half_width": ".1f",
            "unstable": "",
        },
        rows=rows,
    )


def diffusers_table(
    config: Mapping[str, Any],
    device: torch.device,
    *,
    model: str,
    batches: Sequence[int],
    dtype: torch.dtype,
    repeats: int,
    calls: int = 10,
) -> Table:
    """Time of a forward pass at full depth beside diffusers' model of the same size.

    Args:
        config: Arguments of our DiT by their official names.
        device: Where to run.
        model: Name on the page.
        batches: Images in one call.
        dtype: Of weights and inputs.
        repeats: Rounds.
        calls: Forward passes per timing.
    """
    from diffusers import DiTTransformer2DModel

    ours = DiT(**config)
    theirs = DiTTransformer2DModel(
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["hidden_size"] // config["num_heads"],
        in_channels=config["in_channels"],
        out_channels=ours.out_channels,
        num_layers=config["depth"],
        sample_size=config["input_size"],
        patch_size=config["patch_size"],
        num_embeds_ada_norm=config["num_classes"],
    )
    for net in (ours, theirs):
        net.to(device=device, dtype=dtype).eval()
        fill_zero_matrices(net, device)
    rows = []
    for batch in batches:
        x = torch.randn(batch, *ours.in_shape, device=device, dtype=dtype)
        t = torch.full((batch,), 500, device=device)
        y = torch.arange(batch, device=device) % config["num_classes"]

        def run_ours(
            x: torch.Tensor = x, t: torch.Tensor = t, y: torch.Tensor = y
        ) -> Iterator[object]:
            for _ in range(calls):
                yield ours(x, t, y, exit_depth=config["depth"])

        def run_theirs(
            x: torch.Tensor = x, t: torch.Tensor = t, y: torch.Tensor = y
        ) -> Iterator[object]:
            for _ in range(calls):
                yield theirs(x, timestep=t, class_labels=y)

        work: dict[str, Work] = {"ours": run_ours, "diffusers": run_theirs}
        with torch.inference_mode():
            times = time_rounds(work, build_clock(device), repeats)
        ratios = [a / b for a, b in zip(times["ours"], times["diffusers"], strict=True)]
        rows.append(
            {
                "batch": batch,
                "ours_ms": statistics.median(times["ours"]) / calls,
                "diffusers_ms": statistics.median(times["diffusers"]) / calls,
                "ratio": statistics.median(ratios),
            }
        )
    return Table(
        title=f"Forward pass of {model} beside diffusers' DiTTransformer2DModel",
        note=f"{place(device)}; {str(dtype).removeprefix('torch.')}, full depth, random "
        f"weights, median of {repeats} interleaved rounds of {calls} calls. Goal: ratio at most "
        "1. diffusers embeds time and class in every block, which costs little.",
        columns={"batch": "d", "ours_ms": ".2f", "diffusers_ms": ".2f", "ratio": ".3f"},
        rows=rows,
    )
