"""Small networks with uncertainty modules of random weights, and runs of them."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from schedsearch.methods.exit_run import ExitRun
from schedsearch.methods.uncertainty import WithUncertainty
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
