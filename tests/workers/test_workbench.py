"""What the jobs of a study share in a process."""

from pathlib import Path

import pytest
from trial_jobs import job_of

from schedsearch.exceptions import ConfigError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers import workbench
from schedsearch.workers.workbench import Workbench, open_workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    job = job_of(tmp_path, evaluation={"auditor": "digits_mlp"})
    return open_workbench(job.settings, str(tmp_path / "reference"))


def test_it_is_built_once_for_a_study(tmp_path: Path, bench: Workbench) -> None:
    job = job_of(tmp_path, evaluation={"auditor": "digits_mlp"})
    assert open_workbench(job.settings, str(tmp_path / "reference")) is bench
    assert open_workbench(job.settings, str(tmp_path / "other")) is not bench


def test_every_fine_tune_gets_its_own_copy(bench: Workbench) -> None:
    first, second = bench.fresh_backbone(), bench.fresh_backbone()
    assert first is not second
    assert first is not bench.backbone


def test_full_depth_and_visits(bench: Workbench) -> None:
    assert bench.is_full_depth(ExitSchedule.flat(10))
    assert not bench.is_full_depth(ExitSchedule((10,) * 9 + (9,)))
    assert bench.visits == (0, 0, 0, 1, 0, 0, 1, 0, 0, 1)


def test_an_auditor_with_the_same_weights_judges_nothing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "build_extractor", lambda *_: bench.extractor)
    with pytest.raises(ConfigError, match="must be another extractor than"):
        _ = bench.auditor
