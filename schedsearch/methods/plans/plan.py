"""A plan: which blocks run at every network call, and what is reused.

A reused step adds the residual h_L - h_f that the last full step cached, or a fitted linear
function of h_f and that residual. It runs the head, so its time conditioning is fresh.

Shapes: N batch, T tokens, D width, L blocks, f blocks that run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.plans.maps import adapted, reused
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Tokens

SAME_TIME = 1e-2
"""Clock times that differ by less are the same."""


def map_name(step: int, choice: PlanStep) -> str:
    """Name of a step's fitted numbers: one set per reused step, one per exit."""
    return f"step.{step}" if choice.kind == "reuse" else f"exit.{choice.blocks}"


@dataclass(frozen=True, eq=False)
class Plan:
    """Runs the steps of a plan; bound to the number of solver steps.

    Args:
        steps: One per network call, from noise to data; the first runs all blocks.
        maps: Fitted numbers by :func:`map_name`: (3, D) per channel, (2D + 1, D) for a map,
            (D + 1, D) for an exit's adapter. The last row is the bias.
        times: Clock times of the calls that it was made for; empty takes any.

    Raises:
        ConfigError: If the first step is not full, or fitted numbers are missing.
    """

    steps: tuple[PlanStep, ...]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    times: tuple[float, ...] = ()
    _placed: dict[tuple[str, torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not self.steps or self.steps[0].kind != "full":
            raise ConfigError("The first step of a plan must be F: there is nothing to reuse.")
        for step, choice in enumerate(self.steps):
            if choice.is_fitted and map_name(step, choice) not in self.maps:
                raise ConfigError(
                    f"Step {step} of the plan is {choice}, but its fitted numbers are missing. "
                    "Restore the weights beside the method file."
                )

    def prefixes(self, step: int) -> list[int]:
        """Prefixes whose residuals later steps reuse, if ``step`` is full."""
        found: set[int] = set()
        for choice in self.steps[step + 1 :]:
            if choice.kind == "full":
                break
            if choice.kind == "reuse":
                found.add(choice.blocks)
        return sorted(found)

    def numbers(self, step: int, like: Tensor) -> Tensor:
        """The numbers of a fitted step, on the device and in the dtype of ``like``."""
        name = map_name(step, self.steps[step])
        key = name, like.device, like.dtype
        if key not in self._placed:
            self._placed[key] = self.maps[name].to(like)
        return self._placed[key]

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> PlanRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        stages = staged(net, "A plan")
        if len(times) != len(self.steps):
            raise ConfigError(
                f"The plan has {len(self.steps)} steps, but the solver makes {len(times)} network "
                "calls. Plan again with `schedsearch plan`."
            )
        if self.times and any(
            abs(ours - theirs) > SAME_TIME for ours, theirs in zip(self.times, times, strict=True)
        ):
            raise ConfigError(
                "The plan was made for other times of the network calls than this solver's. Plan "
                "again with `schedsearch plan`."
            )
        for step, choice in enumerate(self.steps):
            _check_blocks(choice, stages)
            if choice.is_fitted:
                _check_numbers(choice, self.maps[map_name(step, choice)], step, stages.width)
        return PlanRun(stages, self, guided=guided)


def _check_blocks(choice: PlanStep, net: StagedBackbone) -> None:
    first_exit = net.num_blocks - net.num_exit_blocks
    lowest = max(1, first_exit) if choice.kind == "exit" and choice.fit == "plain" else 0
    if choice.kind != "full" and not lowest <= choice.blocks < net.num_blocks:
        raise ConfigError(
            f"The step {choice} of the plan must run {lowest} to {net.num_blocks - 1} of the "
            f"network's {net.num_blocks} blocks. Plan again for this network."
        )


def _check_numbers(choice: PlanStep, numbers: Tensor, step: int, width: int) -> None:
    inputs = 2 if choice.kind == "reuse" else 1
    expected = (3 if choice.fit == "diagonal" else inputs * width + 1, width)
    if numbers.shape != expected:
        raise ConfigError(
            f"Step {step} of the plan is {choice}, which needs numbers of shape {expected} in "
            f"this network, got {tuple(numbers.shape)}. Plan again for this network."
        )


class PlanRun(MethodRun):
    """One sampling run of :class:`Plan`."""

    def __init__(self, net: StagedBackbone, plan: Plan, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self._plan = plan
        self._residuals: dict[int, Tensor] = {}

    def held(self) -> list[Tensor]:
        """Residuals of the last full step."""
        return list(self._residuals.values())

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        choice = self._plan.steps[step]
        tokens = self.net.open(x, t, y)
        if choice.kind == "full":
            output = self._run_all(tokens, self._plan.prefixes(step))
            self.note_blocks(self.net.num_blocks, len(x))
            return output
        for block in range(choice.blocks):
            tokens = self.net.run(tokens, block)
        output = self._leave(tokens, step, choice)
        self.note_blocks(choice.blocks, len(x))
        return output

    def _run_all(self, tokens: Tokens, prefixes: Sequence[int]) -> Tensor:
        """Run all blocks and cache the residuals of some prefixes."""
        self._residuals = {}  # NOTE: frees memory before the blocks run
        num_blocks, before = self.net.num_blocks, {}
        for block in range(num_blocks):
            if block in prefixes:
                before[block] = tokens.h
            tokens = self.net.run(tokens, block)
        self._residuals = {prefix: tokens.h - h for prefix, h in before.items()}
        return self.net.close(tokens, num_blocks)

    def _leave(self, tokens: Tokens, step: int, choice: PlanStep) -> Tensor:
        """Predict from the tokens after the step's blocks."""
        numbers = None
        if choice.is_fitted:
            numbers = self._plan.numbers(step, tokens.h)
        if choice.kind == "reuse":
            h = reused(tokens.h, self._residuals[choice.blocks], numbers)
        elif numbers is None:
            return self.net.close(tokens, choice.blocks)
        else:
            h = adapted(tokens.h, numbers)
        # NOTE: What stands here replaces the last block's output, so no skip is left to merge.
        return self.net.close(replace(tokens, h=h, skips=()), self.net.num_blocks, "all")
