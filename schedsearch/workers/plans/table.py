"""What a calibration of plans found, on disk: errors, weights, costs and fitted numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import replacing, write_text
from schedsearch.files.strict_json import read_document, to_document
from schedsearch.methods.plans.recording import Cell, Layout
from schedsearch.methods.plans.steps import Fit, PlanStep
from schedsearch.planning.plan_inputs import PlanCosts, PlanErrors

TABLE = "table.json"
FITS = "fits.safetensors"
MAPS = "maps.safetensors"

MAP_GAIN = 0.5
"""A linear map must have at most this share of the fit per channel's held-out error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Milliseconds of one network call of a batch, by what it runs."""

    fixed_ms: float
    """Per sampling run, besides the calls."""
    full_ms: float
    reuse_ms: float
    """A reused step without blocks."""
    block_ms: float
    """Every block of a prefix more."""
    diagonal_ms: float
    """Correction per channel."""
    map_ms: float
    """Correction of a reused step by a linear map."""
    adapter_ms: float
    """Correction of an exit by a linear map."""

    def of(self, step: PlanStep) -> float:
        """Milliseconds of a step."""
        if step.kind == "full":
            return self.full_ms
        added = {"plain": 0.0, "diagonal": self.diagonal_ms, "map": self.map_ms}[step.fit]
        if step.kind == "exit" and step.fit == "map":
            added = self.adapter_ms
        return self.reuse_ms + self.block_ms * step.blocks + added


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTable:
    """Errors of every choice at every step, for one solver and number of steps."""

    digest: str
    """Of everything that it depends on."""
    num_steps: int
    """Network calls of a run."""
    num_blocks: int
    layout: Layout
    weights: tuple[float, ...]
    """Squared change of the final sample per squared error of a step."""
    reuse: Mapping[Cell, Mapping[Fit, float]]
    """Held-out squared error per cell and fit."""
    exits: Mapping[tuple[int, int], Mapping[Fit, float]]
    """The same per (step, blocks)."""
    costs: StepCosts
    seconds: float
    """CPU-seconds of the calibration."""
    samples: int
    """Images sampled for it, as sampling runs of full depth."""

    def best_reuse(self, cell: Cell) -> tuple[Fit, float]:
        """The fit of a cell, and its error."""
        found = self.reuse[cell]
        simple: Fit = "diagonal" if found["diagonal"] < found["plain"] else "plain"
        if found.get("map", np.inf) <= MAP_GAIN * found[simple]:
            return "map", found["map"]
        return simple, found[simple]

    def best_exit(self, step: int, depth: int) -> tuple[Fit, float]:
        """The fit of an exit, and its error."""
        found = self.exits[step, depth]
        fit: Fit = "map" if found["map"] < found["plain"] else "plain"
        return fit, found[fit]

    def step_of(self, step: int, kind: str, blocks: int, age: int) -> PlanStep:
        """A choice of the dynamic program with its fit."""
        if kind == "full":
            return PlanStep("full")
        if kind == "exit":
            return PlanStep("exit", blocks, self.best_exit(step, blocks)[0])
        return PlanStep("reuse", blocks, self.best_reuse((step, blocks, age))[0])

    def errors(self) -> PlanErrors:
        """Errors for the dynamic program; the first step is always full."""
        prefixes, depths = self.layout.prefixes, self.layout.exits
        reuse = np.full((self.num_steps, len(prefixes), self.layout.max_age), np.inf)
        exits = np.full((self.num_steps, len(depths)), np.inf)
        for (step, prefix, age), _ in self.reuse.items():
            reuse[step, prefixes.index(prefix), age - 1] = self.best_reuse((step, prefix, age))[1]
        for step, depth in self.exits:
            if step:
                exits[step, depths.index(depth)] = self.best_exit(step, depth)[1]
        return PlanErrors(
            weights=np.array(self.weights),
            reuse=reuse,
            prefixes=prefixes,
            exits=exits,
            exit_depths=depths,
        )

    def latency_costs(self) -> PlanCosts:
        """Milliseconds for the dynamic program."""
        return self._costs(self.costs.of, self.costs.fixed_ms)

    def block_costs(self) -> PlanCosts:
        """Blocks for the dynamic program, where a share of blocks is the target."""
        return self._costs(lambda s: self.num_blocks if s.kind == "full" else s.blocks, 0.0)

    def _costs(self, of: Any, fixed: float) -> PlanCosts:
        prefixes, depths = self.layout.prefixes, self.layout.exits
        reuse = np.zeros((self.num_steps, len(prefixes), self.layout.max_age))
        exits = np.zeros((self.num_steps, len(depths)))
        for step, prefix, age in self.reuse:
            choice = self.step_of(step, "reuse", prefix, age)
            reuse[step, prefixes.index(prefix), age - 1] = of(choice)
        for step, depth in self.exits:
            exits[step, depths.index(depth)] = of(self.step_of(step, "exit", depth, 0))
        return PlanCosts(
            num_blocks=self.num_blocks,
            full_ms=of(PlanStep("full")),
            reuse_ms=reuse,
            exit_ms=exits,
            fixed_ms=fixed,
        )

    # ---- files ----------------------------------------------------------------------------

    def write(self, folder: Path, place: str | None = None) -> None:
        """Write ``table.json``; the fitted numbers lie beside it.

        Args:
            folder: Its folder.
            place: What its checksum says.
        """
        data = {
            **{k: v for k, v in asdict(self).items() if k not in ("reuse", "exits")},
            "reuse": [[*cell, dict(errors)] for cell, errors in self.reuse.items()],
            "exits": [[*cell, dict(errors)] for cell, errors in self.exits.items()],
        }
        write_text(folder / TABLE, to_document(data, place))

    @classmethod
    def read(cls, folder: Path, place: str | None = None) -> Self | None:
        """Read ``table.json``; None where there is none.

        Args:
            folder: Its folder.
            place: What its checksum must say; None takes any.

        Raises:
            StorageError: If it is damaged.
        """
        try:
            data = read_document(folder / TABLE, place)
            layout = data["layout"]
            return cls(
                **{
                    **data,
                    "layout": Layout(
                        prefixes=tuple(layout["prefixes"]),
                        exits=tuple(layout["exits"]),
                        max_age=layout["max_age"],
                    ),
                    "weights": tuple(data["weights"]),
                    "reuse": {(s, f, a): e for s, f, a, e in data["reuse"]},
                    "exits": {(s, d): e for s, d, e in data["exits"]},
                    "costs": StepCosts(**data["costs"]),
                }
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"Cannot read {folder / TABLE}: {str(error).rstrip('.')}. Delete the folder; "
                "it is made again."
            ) from error


@dataclass(slots=True)
class Numbers:
    """Fitted numbers of a calibration, as tensors by name."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def cell_name(cell: Cell, fit: Fit) -> str:
        """Name of a reused cell's numbers."""
        return f"{fit}.{'.'.join(map(str, cell))}"

    @staticmethod
    def exit_name(depth: int) -> str:
        """Name of an adapter's numbers."""
        return f"adapter.{depth}"

    def write(self, path: Path) -> None:
        """Write them atomically."""
        content = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        with replacing(path) as temporary:
            temporary.write_bytes(save(content))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Read several files into one.

        Raises:
            StorageError: If one is damaged or gone.
        """
        found: dict[str, Tensor] = {}
        for path in paths:
            try:
                found |= load_file(path)
            except (OSError, SafetensorError) as error:
                raise StorageError(
                    f"Cannot read {path}: {error}. Delete its folder; it is made again."
                ) from error
        return cls(found)

    def of(self, step: int, choice: PlanStep, age: int) -> Tensor:
        """The numbers of a fitted step."""
        if choice.kind == "exit":
            return self.tensors[self.exit_name(choice.blocks)]
        return self.tensors[self.cell_name((step, choice.blocks, age), choice.fit)]


def median_weights(weights: Tensor) -> tuple[float, ...]:
    """Median over images of (S, N) step weights, which are heavy-tailed."""
    return tuple(cast(list[float], torch.median(weights, dim=1).values.tolist()))
