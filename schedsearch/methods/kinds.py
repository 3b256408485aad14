"""Builds the method that a method file describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.around import Part
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from schedsearch.methods.fitted_steps import FittedStepsNumbers
from schedsearch.methods.networks import REMEDY, Count, checked
from schedsearch.methods.plans.plan import Plan
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.methods.stitch import Stitch
from schedsearch.methods.token_merging import TokenMerging
from schedsearch.protocols import Method
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.exit_schedule import ExitSchedule

CELLS = "scale_shift"
"""Name of a block cache's tensor in its weights file."""


def build_method(
    kind: str, numbers: Mapping[str, Any], weights: Path | None, num_exit_blocks: int
) -> Method:
    """Build a method.

    Args:
        kind: As in the method file.
        numbers: Its arguments.
        weights: File with what it adds to the network; read for a block cache or a plan.
        num_exit_blocks: Of the network, for full depth.

    Raises:
        ConfigError: If the numbers are not those of the kind.
        CheckpointError: If the weights are gone or damaged.
    """
    wanted, build = _BUILDERS[kind]
    given = checked(wanted, numbers, "numbers", f"kind {kind}")
    try:
        return build(given, weights, num_exit_blocks)
    except ValueError as error:
        raise ConfigError(f"The numbers do not fit kind {kind}: {error}. {REMEDY}") from error


def fitted_numbers(numbers: Mapping[str, Any]) -> FittedStepsNumbers:
    """The numbers of kind ``fitted_steps``.

    Raises:
        ConfigError: If they are not those of the kind.
    """
    found: FittedStepsNumbers = checked(
        FittedStepsNumbers, numbers, "numbers", "kind fitted_steps"
    )
    return found


def numbers_of(schedule: ExitSchedule, clock: Clock) -> dict[str, Any]:
    """The numbers of kind ``schedule`` in a method file.

    Args:
        schedule: The schedule.
        clock: Clock of the process that it was measured with.
    """
    numbers: dict[str, Any] = {"depths": list(schedule.depths)}
    if schedule.edges is not None:
        numbers["edges"] = list(schedule.edges)
    if clock != "ddpm":
        numbers["clock"] = clock
    return numbers


# ---- what stands in a file ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScheduleNumbers:
    depths: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    edges: tuple[float, ...] | None = None
    """Edges of the intervals; None for equal ones."""
    clock: Clock = "ddpm"
    """Process whose times the clock counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepsNumbers:
    """None: the number of steps stands in the file itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanNumbers:
    steps: Annotated[tuple[str, ...], Field(min_length=1)]
    times: tuple[float, ...] = ()
    """Clock times of the network calls that it was made for."""
    full_steps: Count | None = None
    """Steps of full depth, where the plan takes fewer."""

    def __post_init__(self) -> None:
        if self.times and len(self.times) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps need as many times, got {len(self.times)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BlockCacheNumbers:
    parts: tuple[Part, ...]
    every: Count | None = None
    recompute: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """One text of 0 and 1 per step."""
    recompute_mlp: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The same for the MLPs, where ``recompute`` is attention's."""
    scale_shift: bool = False


# ---- kinds --------------------------------------------------------------------------------------


def _schedule(numbers: _ScheduleNumbers, weights: Path | None, num_exit_blocks: int) -> Method:
    if max(numbers.depths) > num_exit_blocks:
        raise ValueError(f"there are {num_exit_blocks} exit blocks, got {max(numbers.depths)}")
    return ExitSchedule(numbers.depths, numbers.edges, numbers.clock)


def _other_solver(numbers: object, weights: Path | None, num_exit_blocks: int) -> Method:
    return ExitSchedule.flat(num_exit_blocks)  # these kinds change the solver alone


def _block_cache(numbers: _BlockCacheNumbers, weights: Path | None, num_blocks: int) -> Method:
    rows = numbers.recompute
    if (numbers.every is None) == (rows is None):
        raise ValueError("a block cache takes either every or recompute")
    recompute, cells = _bits(rows), None
    if numbers.scale_shift:
        cells = _cells(weights, (len(rows or ()), len(rows[0]) if rows else 0))
    return BlockCache(
        every=numbers.every,
        parts=numbers.parts,
        recompute=recompute,
        recompute_mlp=_bits(numbers.recompute_mlp),
        scale_shift=cells,
    )


def _bits(rows: tuple[str, ...] | None) -> tuple[tuple[bool, ...], ...] | None:
    """A plan of a block cache, (S, L)."""
    if rows is None:
        return None
    if len(set(map(len, rows))) > 1 or set("".join(rows)) - {"0", "1"}:
        raise ValueError("recompute takes texts of 0 and 1, all of the same length")
    return tuple(tuple(bit == "1" for bit in row) for row in rows)


def _plan(numbers: _PlanNumbers, weights: Path | None, num_blocks: int) -> Method:
    steps = tuple(map(PlanStep.parse, numbers.steps))
    maps = {} if weights is None else _tensors(weights)
    if wrong := [name for name, tensor in maps.items() if not bool(tensor.isfinite().all())]:
        raise CheckpointError(f"{weights}: {wrong[0]} is not finite. {REMEDY}")
    return Plan(steps, maps, numbers.times)


def _tensors(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"Cannot read {weights}: {error}. Restore it beside its file."
        ) from error


def _cells(weights: Path | None, size: tuple[int, int]) -> Tensor:
    """Read scale and shift of S steps and L blocks."""
    if weights is None:
        raise ValueError("scale_shift needs weights beside the file")
    cells = _tensors(weights).get(CELLS)
    if cells is None:
        raise CheckpointError(f"{weights} holds no scale and shift. Restore it beside its file.")
    if tuple(cells.shape[:2]) != size:
        raise ValueError(f"scale and shift are not of {size[0]} steps and {size[1]} blocks")
    return cells


def _as_it_is(numbers: Method, weights: Path | None, num_exit_blocks: int) -> Method:
    return numbers


_BUILDERS: Mapping[str, tuple[Any, Callable[[Any, Path | None, int], Method]]] = {
    "schedule": (_ScheduleNumbers, _schedule),
    "steps": (_StepsNumbers, _other_solver),
    "fitted_steps": (FittedStepsNumbers, _other_solver),
    "uncertainty": (UncertaintyExit, _as_it_is),
    "similarity": (SimilarityExit, _as_it_is),
    "tome": (TokenMerging, _as_it_is),
    "block_cache": (_BlockCacheNumbers, _block_cache),
    "residual_cache": (ResidualCache, _as_it_is),
    "stitch": (Stitch, _as_it_is),
    "plan": (_PlanNumbers, _plan),
}
