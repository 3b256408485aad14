"""Caches of sub-blocks: FORA, Block Caching and Learning-to-Cache.

FORA (Selvaraju et al. 2024) recomputes attention and MLP of every block at every k-th step.
Block Caching (Wimbauer et al. 2024) recomputes the attention of single blocks by a fixed plan.
Learning-to-Cache (Ma et al. 2024) has learned plans, one for attention and one for MLPs.
Outputs are kept before the gate; norms, modulations and gates are always computed.

Shapes: S steps, L blocks, N batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from schedsearch.exceptions import ConfigError
from schedsearch.methods.around import PARTS, Part, check_parts, run_around
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Around

Plan = tuple[tuple[bool, ...], ...]
"""Whether a step recomputes a block, (S, L); the first step recomputes all."""


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Reuses outputs of attention and MLP from earlier steps.

    Args:
        recompute: The plan of all parts; None for a fixed period.
        every: The period of FORA: recompute every k-th step and the first; None for a plan.
        parts: Sub-blocks that are reused. Others always run.
        recompute_mlp: The plan of the MLPs, where ``recompute`` is that of attention alone.
        scale_shift: Scale and shift of the reused attention output, (S, L, 2, D): one pair per
            step, block and channel. None reuses it unchanged. It does not count for equality.

    Raises:
        ConfigError: If the arguments contradict each other.
    """

    recompute: Plan | None = None
    every: int | None = None
    parts: tuple[Part, ...] = PARTS
    recompute_mlp: Plan | None = None
    scale_shift: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_parts(self.parts, "a block cache")
        if (self.recompute is None) == (self.every is None):
            raise ConfigError("A block cache needs either a plan (recompute) or a period (every).")
        if self.every is not None and self.every < 1:
            raise ConfigError(f"every of a block cache must be at least 1, got {self.every}.")
        for plan in (self.recompute, self.recompute_mlp):
            if plan is not None and not (plan and all(plan[0])):
                raise ConfigError("A block cache's plan must recompute all blocks at step 0.")
        if self.recompute_mlp is not None and (self.recompute is None or self.parts != PARTS):
            raise ConfigError("recompute_mlp needs recompute and parts: [attention, mlp].")
        if self.scale_shift is None:
            return
        if self.recompute is None or self.parts != ("attention",):
            raise ConfigError("scale_shift needs a plan (recompute) and parts: [attention].")
        cells = (len(self.recompute), len(self.recompute[0]), 2)
        if self.scale_shift.ndim != 4 or tuple(self.scale_shift.shape[:3]) != cells:
            raise ConfigError(
                f"scale_shift of this plan must have shape {(*cells, 'D')}, got "
                f"{tuple(self.scale_shift.shape)}."
            )

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> BlockCacheRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        stages = staged(net, "A block cache")
        plans = self._plans(len(times), stages.num_blocks)
        if self.scale_shift is not None and self.scale_shift.shape[-1] != stages.width:
            raise ConfigError(
                f"scale_shift is for a network of width {self.scale_shift.shape[-1]}, but this "
                f"one has {stages.width}; calibrate again."
            )
        return BlockCacheRun(stages, plans, self.scale_shift, guided=guided)

    def _plans(self, num_steps: int, num_blocks: int) -> Mapping[Part, Plan]:
        """Return the plan of every part of a run, (S, L) each."""
        plan = self.recompute
        if plan is None:
            assert self.every is not None
            plan = tuple((s % self.every == 0,) * num_blocks for s in range(num_steps))
        plans: dict[Part, Plan] = dict.fromkeys(self.parts, plan)
        if self.recompute_mlp is not None:
            plans["mlp"] = self.recompute_mlp
        for found in plans.values():
            check_plan(found, num_steps, num_blocks)
        return plans


def check_plan(plan: Plan, num_steps: int, num_blocks: int) -> None:
    """Refuse a plan that was made for other steps or blocks.

    Raises:
        ConfigError: If the plan does not fit.
    """
    if len(plan) != num_steps:
        raise ConfigError(
            f"This cache plan is for {len(plan)} solver steps, but the solver takes {num_steps}; "
            "calibrate again or set solver.num_steps."
        )
    for row in plan:
        if len(row) != num_blocks:
            raise ConfigError(
                f"This cache plan is for {len(row)} blocks, but the network has {num_blocks}; "
                "calibrate again."
            )


class BlockCacheRun(MethodRun):
    """One sampling run of :class:`BlockCache`."""

    def __init__(
        self,
        net: StagedBackbone,
        plans: Mapping[Part, Plan],
        scale_shift: Tensor | None,
        *,
        guided: bool,
    ) -> None:
        super().__init__(net, guided=guided)
        self._plans = plans
        self._num_steps = len(next(iter(plans.values())))
        self._scale_shift = scale_shift
        self._blocks = [CachedBlock() for _ in range(net.num_blocks)]

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        if self._scale_shift is not None:
            self._scale_shift = self._scale_shift.to(x)
        last = step + 1 == self._num_steps
        for index, block in enumerate(self._blocks):
            # NOTE: What no later step reuses is not kept.
            fresh = {part: plan[step][index] for part, plan in self._plans.items()}
            needed = {
                part: not (last or plan[step + 1][index]) for part, plan in self._plans.items()
            }
            block.set(fresh=fresh, needed=needed)
            if self._scale_shift is not None and not fresh["attention"]:
                block.scale, block.shift = self._scale_shift[step, index]
        output = run_around(self.net, x, t, y, self._blocks)
        for block in self._blocks:
            block.forget()
        reused = sum(plan[step].count(False) for plan in self._plans.values())
        self.note_blocks(self.net.num_blocks - reused / len(PARTS), len(x))
        return output

    def held(self) -> Iterator[Tensor]:
        """Outputs that the next step reuses."""
        for block in self._blocks:
            yield from block.kept.values()


class CachedBlock(Around):
    """The cache of one block: it keeps the outputs of its parts, or replaces them."""

    def __init__(self) -> None:
        self.kept: dict[Part, Tensor] = {}
        self.scale: Tensor | None = None
        self.shift: Tensor | None = None
        self._fresh: Mapping[Part, bool] = {}
        self._needed: Mapping[Part, bool] = {}

    def set(self, *, fresh: Mapping[Part, bool], needed: Mapping[Part, bool]) -> None:
        """Prepare a step: which parts run, which are reused, and which are kept."""
        self._fresh, self._needed = fresh, needed

    def forget(self) -> None:
        """Drop what no later step needs."""
        for part, needed in self._needed.items():
            if not needed:
                self.kept.pop(part, None)

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention, or return its earlier output, scaled and shifted."""
        output = self._run("attention", inner, h)
        if self._fresh.get("attention", True) or self.scale is None or self.shift is None:
            return output
        return self.scale * output + self.shift

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the MLP, or return its earlier output."""
        return self._run("mlp", inner, h)

    def _run(self, part: Part, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        if not self._fresh.get(part, True):
            return self.kept[part]
        output = inner(h)
        if self._needed.get(part, False):
            self.kept[part] = output
        return output
