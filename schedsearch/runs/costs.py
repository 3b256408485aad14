"""``costs.json``: where the time of a run went, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import StorageError
from schedsearch.files.strict_json import check_fields, check_numbers
from schedsearch.formatting import duration
from schedsearch.runs.checks.identity import read_own, write_own

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

CHECKS = "checks and latency table"
START = "check of exit adapters"
PROFILE = "profile"
TRIALS = "trials"
FAILED_TRIALS = "failed trials"
FINAL_LATENCY = "final latency"
CONFIRMATION = "confirmation"
COMPARISON = "comparison of methods"
INTERRUPTED = "interrupted"
STAGES = (
    CHECKS,
    START,
    PROFILE,
    TRIALS,
    FAILED_TRIALS,
    FINAL_LATENCY,
    CONFIRMATION,
    COMPARISON,
    INTERRUPTED,
)
"""In the order of the report; ``interrupted`` are jobs of drivers that ended early."""


@dataclass(slots=True, kw_only=True)
class StageCost:
    """What one stage took."""

    jobs: int = 0
    device_seconds: float = 0.0
    """Sum over jobs of the seconds that their worker was busy."""
    wall_seconds: float = 0.0
    """Seconds that the driver spent in this stage; 0 for what ran within another one."""


@dataclass(slots=True)
class Costs:
    """The costs of a run so far."""

    wall_seconds: float = 0.0
    """Seconds of all starts; pauses between them left out."""
    in_flight_seconds: float = 0.0
    """Seconds of jobs that were running when this was written."""
    stages: dict[str, StageCost] = field(default_factory=dict)

    @property
    def device_seconds(self) -> float:
        """Seconds that workers, or the driver in their place, were busy in all stages."""
        return sum(s.device_seconds for s in self.stages.values()) + self.in_flight_seconds

    def of(self, stage: str) -> StageCost:
        """The cost of a stage, to be added to."""
        return self.stages.setdefault(stage, StageCost())

    def lines(self) -> list[str]:
        """A line per stage for people, and one for all of them."""
        total = self.device_seconds
        kept = [(name, self.stages[name]) for name in STAGES if name in self.stages]
        jobs = sum(cost.jobs for _, cost in kept)
        rows = [(name, cost, cost.device_seconds / total if total else 0.0) for name, cost in kept]
        if self.in_flight_seconds:
            running = StageCost(device_seconds=self.in_flight_seconds)
            rows.append(("running", running, self.in_flight_seconds / total))
        everything = StageCost(jobs=jobs, device_seconds=total, wall_seconds=self.wall_seconds)
        rows.append(("all stages", everything, 1.0))
        return [_line(*row) for row in rows]

    def save(self, folder: RunFolder) -> None:
        """Replace ``costs.json``.

        Raises:
            StorageError: If it cannot be written.
        """
        write_own(folder, folder.costs_file, asdict(self))

    @classmethod
    def load(cls, folder: RunFolder) -> Costs:
        """What was kept; all zero for a new run.

        Raises:
            StorageError: If the file is damaged.
        """
        try:
            data = read_own(folder, folder.costs_file)
            stages = {str(name): _stage_cost(cost) for name, cost in data["stages"].items()}
            for name in ("wall_seconds", "in_flight_seconds"):
                check_numbers(data[name], name, least=0)
            costs = cls(float(data["wall_seconds"]), float(data["in_flight_seconds"]), stages)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"Cannot read {folder.costs_file}: {str(error).rstrip('.')}. Delete it; costs are "
                "then counted from here on."
            ) from error
        return costs


def _stage_cost(data: Mapping[str, Any]) -> StageCost:
    check_fields(StageCost, data)
    for name, value in data.items():
        check_numbers(value, name, least=0)
    return StageCost(**data)


def _line(name: str, cost: StageCost, share: float) -> str:
    wall = duration(cost.wall_seconds) if cost.wall_seconds else "-"
    return (
        f"{name + ':':<26}{cost.jobs:>5} jobs {duration(cost.device_seconds):>14} device "
        f"{share:>5.0%} {wall:>14} wall"
    )


def used_budget(costs: Costs, wall_clock: float | None, device_hours: float | None) -> str:
    """What is used of a budget, in words."""
    wall = duration(costs.wall_seconds)
    device = f"{costs.device_seconds / 3600:.2f}"
    return ", ".join(
        [
            f"{wall} wall-clock" if wall_clock is None else f"{wall} of {duration(wall_clock)}",
            f"{device} device-hours"
            if device_hours is None
            else f"{device} of {device_hours:g} device-hours",
        ]
    )
