"""Plans, recorded inputs and token arithmetic for the tests of plans."""

import torch
from torch import Tensor

from schedsearch.methods.plans.plan import Plan, map_name
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.tokens import Tokens
from tests.backbones.small_models import make_dit
from tests.methods.caches.cached_runs import NETS, sample

NETS_WITH_VARIANCE = {**NETS, "learned variance": make_dit(learn_sigma=True).eval()}

MIXED = "F R1 G0 X5 M2 F A1 R0 G3"
"""Nine steps of every kind that suit both networks with the exit ``X5``."""


def mixed_text(net) -> str:
    """A plan with every kind of step; the smallest plain exit differs between the networks."""
    return MIXED.replace("X5", "X3" if net.num_blocks == net.num_exit_blocks else "X5")


def steps_of(text: str) -> tuple[PlanStep, ...]:
    return tuple(map(PlanStep.parse, text.split()))


def plan_of(text: str, net=None) -> Plan:
    """A plan; fitted steps get made-up numbers, close to plain reuse or to the exit."""
    steps = steps_of(text)
    generator = torch.Generator().manual_seed(4)
    maps = {}
    for step, choice in enumerate(steps):
        if choice.is_fitted:
            plain = plain_numbers(choice, net.width)
            noise = torch.randn(plain.shape, generator=generator)
            maps[map_name(step, choice)] = plain + 0.02 * noise
    return Plan(steps, maps)


def plain_numbers(choice: PlanStep, width: int) -> Tensor:
    """Numbers that change nothing: those of plain reuse, or of the exit as it is."""
    if choice.fit == "diagonal":
        return torch.tensor([1.0, 1.0, 0.0])[:, None].repeat(1, width)
    parts = [torch.eye(width)] * (2 if choice.kind == "reuse" else 1)
    return torch.cat([*parts, torch.zeros(1, width)])


class InputSpy:
    """Full depth; keeps the input of every call."""

    def __init__(self):
        self.inputs: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def begin(self, net, times, *, guided):
        call = ExitSchedule.flat(net.num_exit_blocks).begin(net, times, guided=guided)

        def spied(x, t, y, *, clock, step):
            self.inputs.append((x, t, y))
            return call(x, t, y, clock=clock, step=step)

        return spied


def inputs_of(net, **options) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Inputs of every call of a full-depth run; guided ones hold both rows of an image."""
    spy = InputSpy()
    sample(spy, net, **options)
    # NOTE: Copies, because autograd refuses tensors that were made in inference mode.
    return [tuple(v if v is None else v.clone() for v in inputs) for inputs in spy.inputs]


@torch.no_grad()
def tokens_after(net, inputs, num_blocks: int) -> Tokens:
    """The tokens after the first blocks."""
    tokens = net.open(*inputs)
    for block in range(num_blocks):
        tokens = net.run(tokens, block)
    return tokens


def residual_of(net, inputs, prefix: int) -> Tensor:
    """What the blocks after a prefix add."""
    return tokens_after(net, inputs, net.num_blocks).h - tokens_after(net, inputs, prefix).h


@torch.no_grad()
def head(net, tokens: Tokens, h: Tensor) -> Tensor:
    """The prediction from tokens that replace those of the last block."""
    return net.close(tokens.with_h(h), net.num_blocks, "all")


def relative_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest value."""
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance * float(expected.detach().abs().max())
    )
