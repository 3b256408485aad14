"""Exits of a DeeDiff run, recorded on one network and replayed on another.

    python -m benchmarks.recorded_exits digits_dit runs/digits_dit/methods/deediff-0.75/method.yaml

A network with random weights has no trained exits. So its time is measured with the depths that
every sample took on a trained one, scaled to its steps and blocks.

Shapes: S steps, N samples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from schedsearch.files.atomic import write_text
from schedsearch.methods.exits.exit_run import ExitDecision
from schedsearch.methods.exits.uncertainty import UncertaintyRun
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Tokens

FILE = Path(__file__).with_name("deediff_depths.json")
"""The recording that is replayed by default."""

NUM_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Blocks that every sample ran at every step, noise -> data."""

    source: str
    """Where it comes from, for people."""
    num_blocks: int
    """Blocks of the network."""
    depths: tuple[tuple[int, ...], ...]
    """(S, N)."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of :meth:`write`."""
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**data, "depths": tuple(map(tuple, data["depths"]))})

    def write(self, path: Path) -> None:
        """Write JSON with one step per line."""
        steps = ",\n  ".join(json.dumps(list(step)) for step in self.depths)
        head = f'{{"source": {json.dumps(self.source)},\n "num_blocks": {self.num_blocks},\n'
        write_text(path, f'{head} "depths": [\n  {steps}\n ]}}\n')

    @property
    def share(self) -> float:
        """Blocks run / all blocks."""
        depths = [depth for step in self.depths for depth in step]
        return sum(depths) / (len(depths) * self.num_blocks)

    def scaled(self, num_steps: int, num_blocks: int) -> RecordedExit:
        """The method that replays it with other numbers of steps and blocks."""
        steps = [self.depths[step * len(self.depths) // num_steps] for step in range(num_steps)]
        scaled = [[round(d * num_blocks / self.num_blocks) for d in step] for step in steps]
        return RecordedExit(tuple(tuple(max(1, d) for d in step) for step in scaled))


@dataclass(frozen=True, slots=True)
class RecordedExit:
    """DeeDiff with exits that were recorded; a ``Method``.

    The uncertainty module runs after every block and the host waits for it, as in DeeDiff. Only
    what it says is not used.

    Args:
        depths: Blocks per step and sample, (S, N); a larger batch repeats the samples.
    """

    depths: tuple[tuple[int, ...], ...]

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> RecordedRun:
        """Start one sampling run."""
        if len(times) != len(self.depths):
            raise ValueError(f"Recorded {len(self.depths)} steps, but the run has {len(times)}.")
        return RecordedRun(staged(net, "A recorded exit"), self.depths, guided=guided)


class RecordedRun(UncertaintyRun):
    """One sampling run of :class:`RecordedExit`."""

    def __init__(
        self, net: StagedBackbone, depths: tuple[tuple[int, ...], ...], *, guided: bool
    ) -> None:
        super().__init__(net, guided=guided, threshold=0.0, decision=ExitDecision())
        self._depths = depths
        self._now = torch.zeros(0)

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        recorded, num = self._depths[step], len(x) // (2 if self.guided else 1)
        depths = [recorded[sample % len(recorded)] for sample in range(num)]
        self._now = torch.tensor(depths * (2 if self.guided else 1))
        return super().__call__(x, t, y, clock=clock, step=step)

    def _passes(self, before: Tokens, after: Tokens, num_run: int, num_rows: int) -> Tensor:
        super()._passes(before, after, num_run, num_rows)  # NOTE: for its time, host wait included
        return self._now[self._now >= num_run] == num_run


def record(space: str, method_file: str, num_samples: int = NUM_SAMPLES) -> Recording:
    """Sample with a method of a comparison, and record where its samples left.

    Args:
        space: The search space, a file or a name that ships.
        method_file: ``method.yaml`` of a row of kind uncertainty or similarity.
        num_samples: Samples N.
    """
    from schedsearch.backbones.weights.checkpoint import load_backbone_from
    from schedsearch.config import read_settings
    from schedsearch.diffusion.process import build_process
    from schedsearch.diffusion.solvers import build_solver
    from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
    from schedsearch.methods.loading import load_method

    settings, method = read_settings(space), load_method(method_file)
    base: Any = load_backbone_from(settings.backbone)
    net = method.network(base)
    runs: list[Any] = []
    generate(
        net,
        method,
        build_solver(settings.solver, build_process(settings.diffusion)),
        starting_noise(0, num_samples, net.in_shape),
        balanced_labels(num_samples, net.num_classes),
        num_samples,
        cfg_scale=settings.solver.cfg_scale,
        observe=runs.append,
    )
    (run,) = runs
    return Recording(
        source=f"{method.file.name} on {settings.name}, {num_samples} samples",
        num_blocks=getattr(net, "num_blocks", net.num_exit_blocks),
        depths=tuple(tuple(map(int, step.tolist())) for step in run.blocks),
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Record the exits of a DeeDiff row.")
    parser.add_argument("space", help="search space of the comparison")
    parser.add_argument("method", help="method.yaml of the row")
    parser.add_argument("--output", type=Path, default=FILE, help="file (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Record and write."""
    args = build_parser().parse_args(argv)
    recording = record(args.space, args.method)
    recording.write(args.output)
    print(f"{args.output}: {recording.source}, {recording.share:.0%} of the blocks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
