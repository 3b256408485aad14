"""A table as it ships: every schedule of a space, measured; compressed NumPy, nothing pickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import replacing
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.space import SearchSpace

SCHEMA = "schedulebench.table/1"
FOLDER = Path(__file__).parent / "tables"
"""The tables that ship."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Table:
    """FID and latency of all schedules of a space.

    Raises:
        ValueError: If it is not the whole space, or its parts do not fit together.
    """

    name: str
    levels: tuple[int, ...]
    """Exit depths, rising; proposers see their numbers 1..L."""
    weights: tuple[int, ...]
    """Network calls of the solver per interval, data -> noise."""
    depths: NDArray[np.int8]
    """(N, n), data -> noise."""
    fid: Floats
    """(N, S), one column per evaluation seed."""
    latency_ms: Floats
    """(N,) predicted by the measured, affine latency table."""
    error_tables: dict[str, ErrorTable]
    """By how the network was tuned; the columns are the levels, numbered 1..L. ``seconds`` are
    CPU seconds of fine-tune and table."""
    costs: dict[str, float]
    """CPU seconds: ``fine_tune`` and ``sample`` are means over schedules, ``trial`` is both,
    ``latency`` is what the product spends on its latency table. A fine-tune whose weights all rows
    share is not among them."""
    protocol: dict[str, Any]
    """How it was measured. Where rows share weights, ``shared_seconds`` is what their fine-tune
    took, by the clock ``shared_seconds_clock``."""

    def __post_init__(self) -> None:
        num, intervals = self.depths.shape
        space = self.space
        rows = {tuple(row) for row in self.depths.tolist()}
        wanted = {tuple(self.levels[d - 1] for d in s.depths) for s in space.enumerate()}
        if intervals != len(self.weights) or rows != wanted or len(rows) != num:
            raise ValueError(
                f"{self.name} holds {len(rows)} schedules in {num} rows, of {len(wanted)} that "
                "the space has; make the missing rows and pack it again."
            )
        for name, shape in (("fid", (num, self.fid.shape[-1])), ("latency_ms", (num,))):
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all() or (values <= 0).any():
                raise ValueError(f"{self.name}: {name} needs positive values of shape {shape}.")
        for key, errors in self.error_tables.items():
            if (errors.num_intervals, len(errors.depths)) != (intervals, len(self.levels)):
                raise ValueError(f"{self.name}: the error table {key!r} does not fit the space.")
        if not self.costs.get("trial", 0.0) > 0.0:
            raise ValueError(f"{self.name} does not say what a trial costs.")

    @property
    def space(self) -> SearchSpace:
        """The space over the numbers of the levels."""
        return SearchSpace(1, len(self.levels), len(self.weights))

    def save(self, path: Path) -> None:
        """Write a compressed npz file, whole or not at all."""
        meta = {
            "schema": SCHEMA,
            "name": self.name,
            "levels": self.levels,
            "weights": self.weights,
            "error_tables": {key: asdict(table) for key, table in self.error_tables.items()},
            "costs": self.costs,
            "protocol": self.protocol,
        }
        arrays: dict[str, Any] = {
            "depths": self.depths.astype(np.int8),
            "fid": self.fid.astype(np.float32),
            "latency_ms": self.latency_ms.astype(np.float32),
            "meta": np.array(json.dumps(meta)),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, **arrays)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a file of :meth:`save` and check it.

        Raises:
            ConfigError: If there is none, or it is damaged.
        """
        if not path.is_file():
            raise ConfigError(
                f"There is no table {path}; see python -m benchmarks.schedulebench.make --help."
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in ("depths", "fid", "latency_ms")}
                meta = json.loads(str(file["meta"]))
            if meta["schema"] != SCHEMA:
                raise ValueError(f"its schema is {meta['schema']!r}, not {SCHEMA!r}")
            return cls(
                name=meta["name"],
                levels=tuple(meta["levels"]),
                weights=tuple(meta["weights"]),
                error_tables={
                    key: ErrorTable.from_dict(table) for key, table in meta["error_tables"].items()
                },
                costs=meta["costs"],
                protocol=meta["protocol"],
                **arrays,
            )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ConfigError(f"{path} is no table of ScheduleBench: {error}.") from error


def shipped(short_name: str) -> Path:
    """File of a table by its short name, ``digits`` or ``uvit``."""
    return FOLDER / {"digits": "digits-286.npz", "uvit": "uvit-3003.npz"}[short_name]
