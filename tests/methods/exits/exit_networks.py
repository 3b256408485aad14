"""Small networks with uncertainty modules of random weights, and methods that exit from them."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.every_exit import exit_points
from schedsearch.methods.exits.exit_run import ExitRun
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit, WithUncertainty
from tests.backbones.small_models import make_dit, make_inputs, make_uvit


def with_module(net: nn.Module, **options: Any) -> WithUncertainty:
    """A network with a module whose outputs differ between samples, exits and pixels."""
    whole = WithUncertainty.of(copy.deepcopy(net), **options)
    torch.manual_seed(3)
    for parameter in whole.uem.parameters():
        nn.init.normal_(parameter, std=0.6)
    return whole.eval()


NETS = {
    "dit": make_dit().eval(),
    "uvit": make_uvit().eval(),
    "labelled uvit": make_uvit(num_classes=6, null_class=True).eval(),
}
JUDGED = {name: with_module(net) for name, net in NETS.items()}
JUDGED_EVERYWHERE = {name: with_module(net, exits="all") for name, net in NETS.items()}


def inputs(net: nn.Module, n: int = 9) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch at one time, as a solver makes it."""
    x, _, y = make_inputs(net, n)  # type: ignore[arg-type]
    return x, torch.full((n,), 400.0), y


def call(
    method: Any,
    net: nn.Module,
    batch: tuple[Tensor, Tensor, Tensor | None],
    guided: bool = False,
) -> tuple[Tensor, Tensor]:
    """One call of a fresh run: its prediction and the blocks of every row."""
    run = method.begin(net, (400.0,), guided=guided)
    assert isinstance(run, ExitRun)
    with torch.no_grad():
        found = run(*batch, clock=400.0, step=0)
    (blocks,) = run.blocks
    return found, blocks


def signals(method: Any, net: Any, batch: Sequence[Any]) -> Tensor:
    """What the method compares with its threshold, at every exit, (exits, N)."""
    run = method.begin(net, (400.0,), guided=False)
    with torch.no_grad():
        tokens, found = net.open(*batch), []
        for num_run in range(1, net.num_blocks + 1):
            before, tokens = tokens, net.run(tokens, num_run - 1)
            if num_run in run.points:
                found.append(run.signal(before, tokens, num_run - run.points[0]))
    return torch.stack(found)


KINDS = (UncertaintyExit, SimilarityExit)
NEVER = {UncertaintyExit: 0.0, SimilarityExit: 1.1}
TIMES = (999.0, 700.0, 400.0, 100.0)
AT_ONCE = {UncertaintyExit: 1.1, SimilarityExit: -1.1}

kinds = pytest.mark.parametrize("kind", KINDS)
nets = pytest.mark.parametrize("name", NETS)
layouts = pytest.mark.parametrize("exits", ["decoder", "all"])


def judged(name: str, exits: str = "decoder") -> Any:
    return (JUDGED if exits == "decoder" else JUDGED_EVERYWHERE)[name]


def mixed(kind: Any, net: Any, batch: Any, exits: str = "decoder", **options: Any) -> Any:
    """The method at whose threshold the samples of the batch exit at the most depths."""
    seen = signals(kind(threshold=0.5, exits=exits), net, batch)
    points = exit_points(net, exits)
    best = (0, 0.0, 0.0, 0)
    for first in range(points[0] == 1, len(points) - 1):
        for limit, gap in limits(seen[first:-1]):
            passes = torch.cat([seen[first:-1] < limit, torch.ones(1, seen.shape[1])])
            num_depths = len(passes.int().argmax(0).unique())
            best = max(best, (num_depths, gap, limit, points[first]))
    assert best[0] >= 2, "no threshold mixes the depths"
    sign = -1 if kind is SimilarityExit else 1
    return kind(threshold=sign * best[2], exits=exits, min_blocks=best[3], **options)


def limits(seen: Tensor) -> list[tuple[float, float]]:
    """Thresholds midway between two signals, where rounding changes no decision, and gaps."""
    values = seen.flatten().sort().values.tolist()
    return [((a + b) / 2, b - a) for a, b in pairwise(values) if b - a > 1e-5]
