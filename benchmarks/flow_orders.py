"""Convergence of the solvers of flow matching on Gaussian data, whose velocity is known.

python -m benchmarks.flow_orders    takes about a minute on one core

Pixels are N(0.4, 0.3^2). The flow of the exact velocity keeps the whitened state, so the error of
every sample is known. In the SDE a sample is affine in the start and in each step's noise, so mean
and standard deviation of its samples are known too, without drawing any.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.solvers import build_solver
from schedsearch.protocols import Solver
from schedsearch.settings import SolverSettings

MEAN, STD = 0.4, 0.3
CALLS = (10, 20, 40, 80, 160, 320, 640)
DETERMINISTIC: tuple[tuple[str, dict[str, Any]], ...] = (
    ("flow_euler", {}),
    ("flow_euler, shift 3", {"shift": 3.0}),
    ("flow_heun", {}),
    ("flow_heun, shift 3", {"shift": 3.0}),
    ("dpm_solver, order 1", {"order": 1}),
    ("dpm_solver, order 2", {"order": 2}),
    ("dpm_solver, order 2, shift 3", {"order": 2, "shift": 3.0}),
)
"""Rows of the first table; the solver's name comes first."""

STOCHASTIC = (
    ("sit_sde", {}),
    ("sit_sde, end_time 10", {"end_time": 10.0}),
    ("sit_sde, end_time 1", {"end_time": 1.0}),
)
"""Rows of the second table."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow_orders", description=__doc__)
    parser.add_argument("--samples", type=int, default=4096, help="starting values")
    return parser


def exact_velocity(x: Tensor, t: float) -> Tensor:
    """The best velocity, E[noise - data | x]."""
    sigma = t / 1000
    alpha = 1 - sigma
    slope = (sigma - alpha * STD**2) / (alpha**2 * STD**2 + sigma**2)
    return slope * (x - alpha * MEAN) - MEAN


def build(row: str, num_steps: int, options: dict[str, Any]) -> Solver:
    """Build the solver of a row."""
    name: Any = row.partition(",")[0]
    settings = SolverSettings(name=name, num_steps=num_steps, **options)
    return build_solver(settings, FlowProcess("sigma1000"))


def error_of(solver: Solver, noise: Tensor) -> float:
    """Root mean square distance of the samples to the exact ones."""
    start = solver.times[0] / 1000
    whitened = (noise - (1 - start) * MEAN) / math.hypot((1 - start) * STD, start)
    gap = solver.sample(exact_velocity, noise) - (MEAN + STD * whitened)
    return float(gap.square().mean().sqrt())


def spread_error(solver: Solver) -> float:
    """Error of the samples' standard deviation; their mean is exact."""
    rows = torch.zeros(solver.num_steps + 1, dtype=torch.float64)
    drawn = 1

    def step_noise() -> Tensor:
        nonlocal drawn
        drawn += 1
        noise = torch.zeros_like(rows)
        noise[drawn] = 1.0
        return noise

    start = torch.zeros_like(rows)
    start[1] = 1.0
    out = solver.sample(exact_velocity, start, step_noise)
    return float((out[1:] - out[0]).square().sum().sqrt()) - STD


def table(
    rows: Sequence[tuple[str, dict[str, Any]]],
    measure: Callable[[Solver], float],
    *,
    order: bool,
) -> str:
    """Render one table; the order is that between the last two columns."""
    heads = ["solver", *map(str, CALLS), *(["order"] if order else [])]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row, options in rows:
        errors = [measure(build(row, calls, options)) for calls in CALLS]
        cells = [f"{error:.1e}" for error in errors]
        if order:
            cells.append(f"{math.log2(errors[-2] / errors[-1]):.2f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(args.samples, generator=generator, dtype=torch.float64)
    print(table(DETERMINISTIC, lambda solver: error_of(solver, noise), order=True))
    print()
    print(table(STOCHASTIC, spread_error, order=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
