"""``latency.json``: the latency table of a run, and what was measured after its last trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from schedsearch.atomic import write_text
from schedsearch.exceptions import StorageError

if TYPE_CHECKING:
    from schedsearch.search.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLatency:
    """Latency of one trial's schedule, measured after the last trial with workers idle."""

    latency_ms: float
    """Median of the rounds' ratios to full depth, in milliseconds at full depth's median."""
    spread_ms: float
    """Half-width of the 95 % interval of that, full depth's median taken as known."""
    acceleration: float
    """Share of time saved against full depth, median over paired rounds."""
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """``latency.json``: the table before the first trial, the measurements after the last."""

    table: Mapping[str, Any]
    full_ms: float
    """Predicted latency of full depth."""
    measured: Mapping[int, MeasuredLatency] = field(default_factory=dict)
    """By trial number."""
    full_measured_ms: float | None = None
    measured_after: int = 0
    """Complete trials when ``measured`` was taken; with more since then it is out of date."""
    visits: tuple[int, ...] = ()
    """Network calls of the solver per interval, data -> noise."""
    weights: str = ""
    """Fingerprint of the pretrained weights that all trials of the run start from."""

    def save(self, folder: RunFolder) -> None:
        """Replace the run's ``latency.json``."""
        try:
            write_text(folder.latency_file, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise StorageError(f"Cannot write {folder.latency_file}: {error}.") from error

    @classmethod
    def load(cls, folder: RunFolder) -> LatencyReport | None:
        """Read it; None when the run has not come that far."""
        try:
            data = json.loads(folder.latency_file.read_text(encoding="utf-8"))
            measured = {int(n): MeasuredLatency(**m) for n, m in data.pop("measured").items()}
            visits = tuple(data.pop("visits", ()))
            return cls(**data, measured=measured, visits=visits)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"Cannot read {folder.latency_file}: {error}. Delete it; it is measured again."
            ) from error
