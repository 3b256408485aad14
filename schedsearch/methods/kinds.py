"""Builds the method and the network that a method file describes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from schedsearch.backbones.pruning import keep_blocks, narrow
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.files.problems import Findings
from schedsearch.files.validation import validate
from schedsearch.methods.around import Part
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from schedsearch.methods.exits.uncertainty_module import Variant
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.fitted_steps import FittedStepsNumbers
from schedsearch.methods.plans.plan import Plan
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.methods.stitch import Stitch, Stitched
from schedsearch.methods.token_merging import TokenMerging
from schedsearch.protocols import Backbone, ExitLayers, Method
from schedsearch.schedules.exit_schedule import ExitSchedule

CELLS = "scale_shift"
"""Name of a block cache's tensor in its weights file."""

Count = Annotated[int, Field(ge=1)]


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
    given = _checked(wanted, numbers, "numbers", f"kind {kind}")
    try:
        return build(given, weights, num_exit_blocks)
    except ValueError as error:
        raise ConfigError(f"The numbers do not fit kind {kind}: {error}. {_REMEDY}") from error


def fitted_numbers(numbers: Mapping[str, Any]) -> FittedStepsNumbers:
    """The numbers of kind ``fitted_steps``.

    Raises:
        ConfigError: If they are not those of the kind.
    """
    checked: FittedStepsNumbers = _checked(
        FittedStepsNumbers, numbers, "numbers", "kind fitted_steps"
    )
    return checked


def build_network(network: Mapping[str, Any], base: Backbone, weights: Path | None) -> Backbone:
    """Build the network that a method runs on, in eval mode.

    Args:
        network: How it differs from the backbone: ``{}``; ``{keep: [...]}`` of some blocks;
            ``{heads: H, hidden: M}`` of fewer units; ``{uem: {...}}`` with an uncertainty
            module; ``{small: {...}}`` stitched to a small network, whose weights the file holds.
        base: The backbone with its pretrained weights; used up.
        weights: Weights to load; None leaves those of ``base``.

    Raises:
        ConfigError: If the network cannot be built from this backbone, or is not described so.
        CheckpointError: If the weights belong to another network.
    """
    device = next(cast(nn.Module, base).parameters()).device
    wanted = _checked(_Network, network, "network", "a method file")
    if set(network) not in _NETWORKS:
        raise ConfigError(
            "The network of a method file takes keep, uem, small, or heads and hidden, but has "
            f"{', '.join(network)}. {_REMEDY}"
        )
    if wanted.small is not None:
        small = build_network(wanted.small, copy.deepcopy(base), weights)
        return cast(Backbone, Stitched(cast(nn.Module, base), cast(nn.Module, small)).eval())
    net = cast(nn.Module, base)
    if wanted.keep is not None:
        net = keep_blocks(net, wanted.keep)
    elif wanted.heads and wanted.hidden:
        net = narrow(net, wanted.heads, wanted.hidden, None)
    elif wanted.uem is not None:
        net = WithUncertainty.of(net, **asdict(wanted.uem))
    if weights is not None:
        load_weights(net, weights)
    return cast(Backbone, net.to(device).eval())


def check_network(network: Mapping[str, Any], net: Backbone) -> None:
    """Refuse a network that is not the pruned one.

    Args:
        network: As in :func:`build_network`.
        net: The network that a method is about to run on.

    Raises:
        ConfigError: If blocks or heads are those of another network.
    """
    fits = len(network.get("keep", ())) in (0, net.num_exit_blocks)
    if "heads" in network:
        first = next(iter(getattr(net, "blocks", ())), None)
        fits = first is not None and first.attn.num_heads == network["heads"]
    if not fits:
        raise ConfigError(
            "The method is for a pruned network, but got another one. Build it with the method's "
            "network()."
        )


# ---- what stands in a file ----------------------------------------------------------------------

_REMEDY = "Export the method again."


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScheduleNumbers:
    depths: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepsNumbers:
    """None: the number of steps stands in the file itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanNumbers:
    steps: Annotated[tuple[str, ...], Field(min_length=1)]
    times: tuple[float, ...] = ()
    """Clock times of the network calls that it was made for."""

    def __post_init__(self) -> None:
        if self.times and len(self.times) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps need as many times, got {len(self.times)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BlockCacheNumbers:
    parts: tuple[Part, ...]
    every: Count | None = None
    recompute: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """One text of 0 and 1 per step."""
    scale_shift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uem:
    exits: ExitLayers = "decoder"
    shared: bool = False
    time: bool = True
    variant: Variant = "paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    keep: tuple[int, ...] | None = None
    heads: Count | None = None
    hidden: Count | None = None
    uem: _Uem | None = None
    small: dict[str, Any] | None = None


_NETWORKS: tuple[set[str], ...] = (set(), {"keep"}, {"heads", "hidden"}, {"uem"}, {"small"})


def _checked(kind: Any, given: Mapping[str, Any], key: str, owner: str) -> Any:
    """Turn plain data into its type.

    Raises:
        ConfigError: With every mistake, in one line.
    """
    findings = Findings(key)
    valid, value = validate(kind, given, (key,), findings)
    if not valid:
        mistakes = [f"{p.key}: {p.reason}" for p in findings.problems]
        raise ConfigError(f"The {key} do not fit {owner}: {'; '.join(mistakes)}. {_REMEDY}")
    return value


# ---- kinds --------------------------------------------------------------------------------------


def _schedule(numbers: _ScheduleNumbers, weights: Path | None, num_exit_blocks: int) -> Method:
    if max(numbers.depths) > num_exit_blocks:
        raise ValueError(f"there are {num_exit_blocks} exit blocks, got {max(numbers.depths)}")
    return ExitSchedule(numbers.depths)


def _other_solver(numbers: object, weights: Path | None, num_exit_blocks: int) -> Method:
    return ExitSchedule.flat(num_exit_blocks)  # these kinds change the solver alone


def _block_cache(numbers: _BlockCacheNumbers, weights: Path | None, num_blocks: int) -> Method:
    rows = numbers.recompute
    if (numbers.every is None) == (rows is None):
        raise ValueError("a block cache takes either every or recompute")
    if rows is not None and (len(set(map(len, rows))) > 1 or set("".join(rows)) - {"0", "1"}):
        raise ValueError("recompute takes texts of 0 and 1, all of the same length")
    cells = None
    if numbers.scale_shift:
        cells = _cells(weights, (len(rows or ()), len(rows[0]) if rows else 0))
    return BlockCache(
        every=numbers.every,
        parts=numbers.parts,
        recompute=None if rows is None else tuple(tuple(b == "1" for b in row) for row in rows),
        scale_shift=cells,
    )


def _plan(numbers: _PlanNumbers, weights: Path | None, num_blocks: int) -> Method:
    steps = tuple(map(PlanStep.parse, numbers.steps))
    maps = {} if weights is None else _tensors(weights)
    if wrong := [name for name, tensor in maps.items() if not bool(tensor.isfinite().all())]:
        raise CheckpointError(f"{weights}: {wrong[0]} is not finite. {_REMEDY}")
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
