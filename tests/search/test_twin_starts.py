"""Static twins as warm starts: from a comparison in the same run folder, or one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_methods import rival_of, write_rows
from tiny_runs import records_of, run_cli, write_space

from schedsearch.config import read_settings
from schedsearch.exceptions import ConfigError
from schedsearch.methods.method_file import MethodFile, write_method_file
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.methods.digests import digest_of
from schedsearch.schedules.schedule_file import ScheduledBackbone
from schedsearch.search.start import refuse_other_space
from schedsearch.search.study.twins import measured_twins
from schedsearch.settings.rows import rows_of

CALM = {
    "kind": "similarity",
    "trainer": "trainers.layerwise:LayerwiseTrainer",
    "thresholds": [0.99],
}
TWIN = "twin:calm-t0.99"
FITS = (9, 9, 8, 8, 7, 7, 6, 6, 2, 2)
SPACE: dict[str, Any] = {
    "rivals": {"calm": CALM},
    "warm_start": ["full", TWIN],
    "search": {"n_trials": 2},
}


def compared(folder: Path, depths: tuple[int, ...], **changes: Any) -> tuple[Path, RunFolder]:
    """A space with a twin among its warm starts, and what its comparison left."""
    space = write_space(folder, **{**SPACE, **changes})
    settings, run = read_settings(space), RunFolder(folder / "run")
    (row,) = (r for r in rows_of(settings.rivals, {}) if r.name == "calm-t0.99")
    record = rival_of(
        "calm-t0.99-twin",
        [2.0, 2.1],
        training_seed=0,
        config_sha256=digest_of(settings, row, 0),
    )
    target = run.method("calm-t0.99-twin")
    target.mkdir(parents=True)
    write_rows(run, [record], settings)
    backbone = ScheduledBackbone(family="dit", num_exit_blocks=10)
    file = MethodFile(
        name=record.name, kind="schedule", backbone=backbone, numbers={"depths": list(depths)}
    )
    write_method_file(target / "method.yaml", file)
    return space, run


def test_a_run_says_to_compare_first(tmp_path: Path) -> None:
    space = write_space(tmp_path, **SPACE)
    for words in ([], ["--dry-run"]):
        done = run_cli("run", space, "--output", tmp_path / "run", *words)
        assert done.code == 2
        (line,) = (line for line in done.err.splitlines() if TWIN in line)
        assert "Run `schedsearch compare SPACE --output" in line
    assert not (tmp_path / "run" / "latency.json").exists()  # nothing was measured for it


def test_the_depths_come_from_the_run_folder(tmp_path: Path) -> None:
    space, run = compared(tmp_path, FITS)
    found = measured_twins(read_settings(space), run)
    assert {name: schedule.depths for name, schedule in found.items()} == {"calm-t0.99": FITS}
    done = run_cli("run", space, "--output", run.root)
    assert done.code == 0, done.err
    assert [(r.label, r.depths) for r in records_of(run.root)] == [
        ("full", (10,) * 10),
        (TWIN, FITS),
    ]
    front = json.loads(run_cli("front", run.root, "--format", "json").out)
    assert list(FITS) in [entry["depths"] for entry in front]


@pytest.mark.parametrize(
    ("depths", "reason"),
    [
        ((9, 9, 9, 9, 9, 9, 9, 9, 1, 1), "interval 8 runs 1 blocks, outside [2, 10]"),
        ((9, 9, 8, 9, 9, 9, 9, 9, 9, 9), "depth grows towards the noise"),
    ],
)
def test_a_twin_outside_the_space_is_refused_with_its_depths(
    tmp_path: Path, depths: tuple[int, ...], reason: str
) -> None:
    space, run = compared(tmp_path, depths)
    done = run_cli("run", space, "--output", run.root)
    assert done.code == 2
    assert f"warm_start[1]: {TWIN} ({' '.join(map(str, depths))}) is not in the space" in done.err
    assert reason in done.err


def test_a_twin_of_other_settings_is_not_used(tmp_path: Path) -> None:
    space, run = compared(tmp_path, FITS)
    write_space(tmp_path, **{**SPACE, "rivals": {"calm": {**CALM, "decide": "batch"}}})
    with pytest.raises(ConfigError, match="holds no such row with these settings"):
        measured_twins(read_settings(space), run)


def test_a_failed_row_has_no_twin(tmp_path: Path) -> None:
    space, run = compared(tmp_path, FITS)
    run.rivals_file.unlink()
    failed = rival_of("calm-t0.99", [], training_seed=0, failed="it broke")
    write_rows(run, [failed], read_settings(space))
    with pytest.raises(ConfigError, match="Run `schedsearch compare SPACE"):
        measured_twins(read_settings(space), run)


def test_too_few_trials_for_the_twin(tmp_path: Path) -> None:
    space, run = compared(tmp_path, FITS, search={"n_trials": 1})
    done = run_cli("run", space, "--output", run.root)
    assert done.code == 2
    assert "must be at least the 2 different warm starts, got 1" in done.err


def test_a_twin_may_join_until_the_first_trial(tmp_path: Path) -> None:
    _, run = compared(tmp_path, FITS)
    before = write_space(tmp_path, **{**SPACE, "warm_start": ["full"]})
    run.space_file.write_text(before.read_text())
    with_twin = read_settings(write_space(tmp_path, **SPACE))
    refuse_other_space(with_twin, run)
    other = read_settings(write_space(tmp_path, **{**SPACE, "warm_start": [TWIN]}))
    with pytest.raises(ConfigError, match="these keys differ: warm_start"):
        refuse_other_space(other, run)
    run.results_file.touch()
    with pytest.raises(ConfigError, match="these keys differ: warm_start"):
        refuse_other_space(with_twin, run)


def test_a_comparison_measures_the_twin_that_its_space_starts_from(tmp_path: Path) -> None:
    changes = {
        "space": {"min_depth": 1, "monotone": "free"},
        "recipe": {"num_steps": 1, "batch_size": 16},
        "evaluation": {"num_samples": 32, "latency_repeats": 3, "latency_batches": 2},
    }
    space = write_space(tmp_path, **{**SPACE, **changes})
    done = run_cli("compare", space, "--output", tmp_path / "run", "--only", "calm")
    assert done.code == 0, done.err
    done = run_cli("run", space, "--output", tmp_path / "run", "--dry-run")
    assert done.code == 0, done.err
    (twin,) = measured_twins(read_settings(space), RunFolder(tmp_path / "run")).values()
    (line,) = (line for line in done.out.splitlines() if TWIN in line)
    assert str(twin) in line
