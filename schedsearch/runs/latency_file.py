"""``latency.json``: the latency table of a run, and what was measured after its last trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import check_fields, check_numbers
from schedsearch.runs.checks.identity import read_own, write_own

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
        write_own(folder, folder.latency_file, asdict(self))

    @classmethod
    def load(cls, folder: RunFolder) -> LatencyReport | None:
        """Read it; None when the run has not come that far.

        Raises:
            StorageError: If it is damaged.
        """
        try:
            data = read_own(folder, folder.latency_file)
            check_fields(cls, {**data, "visits": (), "measured": {}})
            measured = {int(n): _measured(m) for n, m in data.pop("measured").items()}
            visits = tuple(data.pop("visits", ()))
            report = cls(**data, measured=measured, visits=visits)
            report._check()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"Cannot read {folder.latency_file}: {str(error).rstrip('.')}. Delete it; it is "
                "measured again."
            ) from error
        return report

    def _check(self) -> None:
        """Refuse numbers that no measurement gives."""
        for name in ("full_ms", "full_measured_ms"):
            if (value := getattr(self, name)) is not None:
                check_numbers(value, name, least=1e-9)
        for value in self.visits:
            if type(value) is not int or value < 0:
                raise ValueError(f"visits are integers from 0, got {value!r}.")
        for name in ("a_ms", "b_ms", "c0_ms"):
            check_numbers(self.table[name], name)
        if not isinstance(self.table.get("protocol", {}), dict):
            raise ValueError("table.protocol is an object.")


def _measured(data: Mapping[str, Any]) -> MeasuredLatency:
    check_fields(MeasuredLatency, data)
    for name, value in data.items():
        check_numbers(value, name, least=1e-9 if name == "latency_ms" else None)
    return MeasuredLatency(**data)
