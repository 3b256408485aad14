"""``latency.json``: the latency table of a run, and what was measured after its last trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLatency:
    """Latency of one trial's schedule, measured after the last trial with workers idle."""

    latency_ms: float
    """Median ratio to full depth over the rounds, times full depth's median."""
    half_width_ms: float
    """Half of its 95 % interval."""
    acceleration: float
    """Share of time saved against full depth."""
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
    adapters: bool = False
    """Whether early exits were timed with a linear map each."""

    def up_to_date(self, num_complete: int) -> LatencyReport:
        """Without the measurements, where trials have ended since they were taken."""
        is_old = self.measured_after not in (0, num_complete)
        return replace(self, measured={}) if is_old else self

    def predicted_ms(self, depths: Sequence[int]) -> float | None:
        """What the table says of a schedule, ms per batch; equal for equally many blocks.

        None where the report lacks the table, or how often the solver visits the intervals.
        """
        if not self.visits or not self.table:
            return None
        table = self.table
        blocks = sum(v * d for v, d in zip(self.visits, depths, strict=True))
        calls = sum(self.visits)
        ms: float = table["c0_ms"] + calls * table["a_ms"] + blocks * table["b_ms"]
        return ms

    def save(self, folder: RunFolder) -> None:
        """Replace the run's ``latency.json``."""
        folder.write(folder.latency_file, json.dumps(asdict(self), indent=1) + "\n")

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
