"""Checks a schedule on tiny diffusers pipelines, for every scheduler that they take.

    python -m benchmarks.pipelines --output benchmarks/results/pipelines.md

Every call of the model is repeated with a block list cut by hand at the depth of the scheduler's
own timestep; bits must agree. Samples before ``enable`` and after ``disable`` must agree too.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import schedsearch
from benchmarks.tiny_pipelines import NUM_BLOCKS, PIPELINES, TinyPipeline, truncated
from schedsearch.apply.attachment import attachment_of
from schedsearch.evaluation.latency_protocol import device_name
from schedsearch.files.atomic import write_text

SCHEDULE = schedsearch.ExitSchedule((6, 6, 5, 5, 4, 4, 3, 3, 2, 1))
"""Every depth of the tiny models."""

OVERHEAD_LIMIT = 30.0
"""Most microseconds of CPU time that arming, iterating and disarming may take per call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pipeline with one scheduler."""

    pipeline: str
    scheduler: str
    refused: str = ""
    """Error of the pipeline itself, without any schedule."""
    calls: int = 0
    depths: str = ""
    """Calls by the number of blocks, deepest first."""
    is_equal: bool = False
    """Whether every call equals the hand-cut model, bit for bit."""
    is_reversible: bool = False
    """Whether the samples after ``disable`` equal those before ``enable``."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong; a pipeline may refuse a scheduler itself."""
        return bool(self.refused) or (self.is_equal and self.is_reversible)


def check(pipeline: TinyPipeline, scheduler: str, num_steps: int) -> Row:
    """Run one pipeline with one scheduler: before, enabled, and after."""
    pipe = pipeline.build(scheduler)
    try:
        before = pipeline.sample(pipe, num_steps)
    except (ValueError, AssertionError) as error:
        return Row(pipeline=pipeline.name, scheduler=scheduler, refused=type(error).__name__)
    with schedsearch.enabled(pipe, SCHEDULE):
        calls: list[tuple[dict[str, Any], Tensor]] = []
        with recorded(pipe.transformer, calls):
            pipeline.sample(pipe, num_steps)
        summary = schedsearch.summary(pipe)
    times = pipe.scheduler.timesteps.tolist()
    after = pipeline.sample(pipe, num_steps)
    return Row(
        pipeline=pipeline.name,
        scheduler=scheduler,
        calls=summary.num_calls,
        depths=", ".join(f"{depth}: {num}" for depth, num in summary.calls.items()),
        is_equal=are_truncations(pipeline, calls, times)
        and summary.calls == Counter(SCHEDULE.visited(times)),
        is_reversible=torch.equal(before, after),
    )


@contextmanager
def recorded(model: nn.Module, calls: list[tuple[dict[str, Any], Tensor]]) -> Iterator[None]:
    """Keep arguments and output of every call of a model."""

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = {**dict(zip(("hidden_states",), args, strict=False)), **kwargs}
        copies = {k: v.clone() if isinstance(v, Tensor) else v for k, v in given.items()}
        calls.append(({**copies, "return_dict": False}, output[0].clone()))

    handle = model.register_forward_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def are_truncations(
    pipeline: TinyPipeline, calls: Sequence[tuple[dict[str, Any], Tensor]], times: Sequence[float]
) -> bool:
    """Whether each call equals a model cut by hand for the scheduler's time."""
    if len(calls) != len(times):
        return False
    for (kwargs, output), t in zip(calls, times, strict=True):
        model = truncated(pipeline.model(), pipeline.lists, SCHEDULE.depth_at(t))
        if not torch.equal(model(**kwargs)[0], output):
            return False
    return True


def check_all(num_steps: int, report: Callable[[str], None]) -> Iterator[Row]:
    """Check every pair of pipeline and scheduler."""
    for pipeline in PIPELINES.values():
        for scheduler in pipeline.schedulers:
            report(f"{pipeline.name}, {scheduler}")
            yield check(pipeline, scheduler, num_steps)


def overhead(name: str, calls: int = 2000, repeats: int = 5) -> float:
    """Microseconds of CPU time that a schedule adds to a call, least of all repeats."""
    pipeline = PIPELINES[name]
    model = pipeline.model()
    scale = 1000.0 if name == "FLUX" else 1.0
    kwargs = {"timestep": torch.tensor(450.0 / scale).expand(8)}
    found = []
    with schedsearch.enabled(model, SCHEDULE):
        attachment = attachment_of(model)
        assert attachment is not None
        for _ in range(repeats):
            start = time.process_time()
            for _ in range(calls):
                attachment.arm(model, (), kwargs)
                for blocks in attachment.lists:
                    list(blocks)
                attachment.disarm(model, (), kwargs)
            found.append((time.process_time() - start) / calls * 1e6)
    return min(found)


def page_of(rows: Sequence[Row], costs: dict[str, float], num_steps: int) -> str:
    """The result page."""
    ran = [row for row in rows if not row.refused]
    good = sum(row.passed for row in ran)
    names = ("torch", "diffusers", "transformers", "accelerate")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    lines = [
        "# Schedules on diffusers pipelines",
        "",
        f"{good} of {len(ran)} pairs of pipeline and scheduler follow a schedule exactly;",
        f"{len(rows) - len(ran)} more are refused by the pipeline itself, also without one.",
        "",
        "## Protocol",
        "",
        f"* The real classes of diffusers with random weights, {NUM_BLOCKS} blocks and width 16;",
        "  prompts are random embeddings.",
        f"* {num_steps} steps with the schedule {SCHEDULE} (blocks, data to noise).",
        "* Bit-equal: each call equals the model whose block list is cut by hand, at the depth of",
        "  the scheduler's timestep.",
        "* Reversible: samples after `disable` equal those before `enable`, bit for bit.",
        f"* Python {platform.python_version()}, {versions};",
        f"  {device_name(torch.device('cpu'))}, {torch.get_num_threads()} thread.",
        "",
        "```bash",
        "python -m benchmarks.pipelines --output benchmarks/results/pipelines.md",
        "```",
        "",
        "## Results",
        "",
        "| pipeline | scheduler | calls | calls by depth | bit-equal | reversible |",
        "|---|---|---|---|---|---|",
        *map(line_of, rows),
        "",
        "## Cost",
        "",
        "CPU time that a schedule adds to a call of the model, the least of five rounds of 2000",
        f"calls (limit: {OVERHEAD_LIMIT:g} us):",
        "",
        *(f"* {name}: {micros:.0f} us" for name, micros in costs.items()),
        "",
        "## Limits",
        "",
        "* Random weights: a schedule runs as written; what it costs in quality is not measured.",
        "* Time on a GPU is not measured.",
    ]
    return "\n".join(lines) + "\n"


def line_of(row: Row) -> str:
    """One line of the table."""
    cells = [row.pipeline, row.scheduler]
    if row.refused:
        cells += ["-", f"refused by the pipeline ({row.refused})", "-", "-"]
    else:
        words = ("no", "yes")
        cells += [str(row.calls), row.depths, words[row.is_equal], words[row.is_reversible]]
    return f"| {' | '.join(cells)} |"


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=10, help="steps of every scheduler")
    parser.add_argument("--output", type=Path, help="page to write; it is always printed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check all pairs; 1 if one fails."""
    args = build_parser().parse_args(argv)
    rows = list(check_all(args.num_steps, lambda line: print(line, file=sys.stderr)))
    costs = {name: overhead(name) for name in ("PixArt-alpha", "FLUX")}
    page = page_of(rows, costs, args.num_steps)
    if args.output is not None:
        write_text(args.output, page)
    print(page, end="")
    too_slow = max(costs.values()) > OVERHEAD_LIMIT
    return int(too_slow or not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
