"""Jobs of a tiny space whose fine-tunes start from adapters."""

from pathlib import Path
from typing import Any

from tiny_runs import write_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import StartJob, TrialJob
from schedsearch.workers.workbench import Workbench, open_workbench

DEPTHS = (10, 10, 10, 10, 8, 8, 8, 7, 7, 7)
NUM_SAMPLES = 16


def settings_text(tmp_path: Path, **changes: Any) -> str:
    """The space, with sections changed."""
    sections: dict[str, Any] = {
        "space": {"min_depth": 6},
        "recipe": {"start": "adapters", "batch_size": 16, "save_every": 1},
        "evaluation": {"auditor": "digits_mlp", "num_samples": NUM_SAMPLES},
        "warm_start": ["full"],
    }
    for section, values in changes.items():
        sections[section] = (
            {**sections.get(section, {}), **values} if isinstance(values, dict) else values
        )
    return dump_settings(read_settings(write_space(tmp_path / "space", **sections), []))


def folder_of(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def bench_of(tmp_path: Path, **changes: Any) -> Workbench:
    text = settings_text(tmp_path, **changes)
    return open_workbench(text, str(folder_of(tmp_path).reference))


def start_job(tmp_path: Path, start: str, **changes: Any) -> StartJob:
    """The check of one start."""
    return StartJob(
        settings=settings_text(tmp_path, **changes),
        run_dir=str(tmp_path / "run"),
        start=start,  # type: ignore[arg-type]
        label="mine",
        schedule=ExitSchedule(DEPTHS),
    )


def trial_job(tmp_path: Path, depths: tuple[int, ...] = DEPTHS, **changes: Any) -> TrialJob:
    """Trial 7, or 0 at full depth."""
    return TrialJob(
        settings=settings_text(tmp_path, **changes),
        run_dir=str(tmp_path / "run"),
        number=7 if min(depths) < 10 else 0,
        schedule=ExitSchedule(depths),
        label=None,
        predicted_latency_ms=12.5,
        measure_latency=False,
    )
