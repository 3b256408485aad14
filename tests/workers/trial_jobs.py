"""Jobs on the tiny space, for workers in this process."""

from pathlib import Path
from typing import Any

from tiny_runs import faulty_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import TrialJob

DEPTHS = (9, 9, 9, 8, 8, 8, 7, 7, 7, 6)


def job_of(tmp_path: Path, fault: str | None = None, **changes: Any) -> TrialJob:
    space = faulty_space(tmp_path, {} if fault is None else {9: fault})
    values: dict[str, Any] = {
        "number": 7,
        "schedule": ExitSchedule(DEPTHS),
        "label": None,
        "settings": dump_settings(read_settings(space, [])),
        "run_dir": str(tmp_path / "run"),
        "predicted_latency_ms": 12.5,
        "measure_latency": False,
    }
    return TrialJob(**{**values, **changes})
