"""Schedules of a run, fine-tuned anew: what is measured once only, and which rows belong to it."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import tiny_space

from benchmarks import retraining
from benchmarks.retraining import Job, exit_code_of, identity_of_run, measure_all
from benchmarks.study_identity import study_digest
from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import dump_settings, read_settings, settings_from_text
from schedsearch.exceptions import ConfigError
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.workbench import open_workbench

JOB = Job(depths=(9,) * 10, num_steps=100, training_seed=1, evaluation_seeds=(1, 2), num_samples=8)
OTHER = replace(JOB, training_seed=2)
THIS_RUN = {"study_digest": "a", "pretrained": "b"}


class Inline:
    """A process pool that works in this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *args: object) -> None: ...

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the row of ``JOB``; a measurement gives the FIDs 7 and 8."""
    monkeypatch.setattr(retraining, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(retraining, "identity_of_run", lambda run: THIS_RUN)
    monkeypatch.setattr(
        retraining, "measure", lambda job, run: {"key": job.key, "fids": [7.0, 8.0]}
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"key": JOB.key, "fids": [1.0, 2.0], **THIS_RUN}) + "\n")
    return path


def test_a_row_that_is_known_is_not_measured_again(rows: Path, tmp_path: Path) -> None:
    known = measure_all([JOB, OTHER, JOB], tmp_path, rows, 1)
    assert known[JOB.key]["fids"] == [1.0, 2.0]
    assert known[OTHER.key]["fids"] == [7.0, 8.0]
    assert len(rows.read_text().splitlines()) == 2


def test_a_line_that_a_stop_tore_is_measured_again(rows: Path, tmp_path: Path) -> None:
    with rows.open("a") as file:
        file.write(json.dumps({"key": OTHER.key, "fids": [3.0, 4.0], **THIS_RUN})[:-9])
    assert measure_all([JOB, OTHER], tmp_path, rows, 1)[OTHER.key]["fids"] == [7.0, 8.0]
    again = measure_all([JOB, OTHER], tmp_path, rows, 1)
    assert again[OTHER.key]["fids"] == [7.0, 8.0]
    assert len(rows.read_text().splitlines()) == 2


def test_shared_weights_are_tuned_once_per_seed_and_before_all_else(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def measure(job: Job, run: Path) -> dict[str, Any]:
        done.append(f"{job.depths[0]} from seed {job.training_seed}")
        return {"key": job.key, "fids": [1.0]}

    monkeypatch.setattr(retraining, "measure", measure)
    monkeypatch.setattr(
        retraining, "tune_shared", lambda seed, exits, run: done.append(f"{exits} {seed}")
    )
    nine, eight = replace(JOB, start="shared"), replace(JOB, depths=(8,) * 10, start="shared")
    assert nine.key != JOB.key
    assert "start" not in JOB.key  # rows of older versions still count
    uniform = replace(nine, exits="uniform")
    assert uniform.key != nine.key
    assert "exits" not in nine.key  # as well
    jobs = [nine, eight, replace(nine, training_seed=2), uniform, JOB]
    measure_all(jobs, tmp_path, rows, 1)
    assert done[:3] == ["schedules 1", "schedules 2", "uniform 1"]
    assert done[3:] == ["9 from seed 1", "8 from seed 1", "9 from seed 2", "9 from seed 1"]
    done.clear()
    measure_all(jobs, tmp_path, rows, 1)
    assert done == []


@pytest.mark.slow
def test_each_training_seed_has_shared_weights_of_its_own(tmp_path: Path) -> None:
    space = tiny_space(profile={"num_steps": 1, "num_images": 4, "start": "shared"})
    settings = settings_from_text(yaml.safe_dump(space))
    (tmp_path / "space.yaml").write_text(dump_settings(settings))
    folder = RunFolder(tmp_path)
    bench = open_workbench(dump_settings(settings), str(folder.reference))
    folder.shared_weights("schedules").parent.mkdir(parents=True)
    save_weights(bench.fresh_backbone(), folder.shared_weights("schedules"), {})
    untuned = Job(
        depths=(5,) * 10, num_steps=0, training_seed=1, evaluation_seeds=(1,), num_samples=64
    )
    jobs = [replace(untuned, start="shared", training_seed=seed) for seed in (1, 2)]
    jobs.append(replace(jobs[0], exits="uniform"))
    known = measure_all([untuned, *jobs], tmp_path, tmp_path / "rows.jsonl", 1)
    assert len({known[job.key]["fids"][0] for job in (untuned, *jobs)}) == 4
    assert measure_all(jobs, tmp_path, tmp_path / "rows.jsonl", 1) == known


@pytest.mark.slow
def test_an_auditor_judges_the_same_images(tmp_path: Path) -> None:
    job = Job(
        depths=(5,) * 10, num_steps=0, training_seed=1, evaluation_seeds=(1, 2), num_samples=64
    )
    alone, audited = (
        _measured(job, tmp_path / str(auditor), {"auditor": auditor})
        for auditor in (None, "digits_mlp")
    )
    assert "audit_fids" not in alone
    assert audited["fids"] == alone["fids"]
    assert audited["audit_features"] == "digits MLP"
    by_auditor = _measured(job, tmp_path / "swapped", {"features": "digits_mlp"})
    assert audited["audit_fids"] == pytest.approx(by_auditor["fids"])


def _measured(job: Job, run: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    run.mkdir()
    settings = settings_from_text(yaml.safe_dump(tiny_space(evaluation=evaluation)))
    (run / "space.yaml").write_text(dump_settings(settings))
    found: dict[str, Any] = retraining.measure(job, run)
    return found


@pytest.mark.parametrize("name", ["study_digest", "pretrained"])
def test_rows_of_another_run_are_refused(
    name: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "identity_of_run", lambda run: {**THIS_RUN, name: "other"})
    with pytest.raises(ConfigError, match=rf"rows\.jsonl .*but differs in {name}; name another"):
        measure_all([JOB], tmp_path, rows, 1)


def test_rows_of_another_auditor_are_refused_and_unaudited_ones_count(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        retraining, "identity_of_run", lambda run: {**THIS_RUN, "audit_features": "digits MLP"}
    )
    assert measure_all([JOB], tmp_path, rows, 1)[JOB.key]["fids"] == [1.0, 2.0]
    other = {"key": OTHER.key, "fids": [1.0], **THIS_RUN, "audit_features": "MNIST CNN"}
    rows.write_text(rows.read_text() + json.dumps(other) + "\n")
    with pytest.raises(ConfigError, match="differs in audit_features"):
        measure_all([JOB], tmp_path, rows, 1)


def test_an_error_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise ConfigError("rows must fit.")

    assert exit_code_of(fails) == 2
    assert capsys.readouterr().err == "error: rows must fit.\n"
    assert exit_code_of(lambda: None) == 0


def test_a_study_is_what_decides_weights_and_images(tmp_path: Path) -> None:
    one = read_settings("digits_dit")
    recipe = replace(one.recipe, lr=5e-5)
    solver = replace(one.solver, num_steps=19)
    backbone = replace(one.backbone, config={**one.backbone.config, "num_heads": 2})
    digests = {
        study_digest(settings)
        for settings in (
            one,
            replace(one, recipe=recipe),
            replace(one, solver=solver),
            replace(one, backbone=backbone),
            replace(one, trainer="my_lab.dit:Finetune"),
        )
    }
    assert len(digests) == 5
    more_trials = replace(one, search=replace(one.search, n_trials=99), name="other")
    elsewhere = replace(one, backbone=replace(one.backbone, checkpoint=tmp_path / "same"))
    assert study_digest(more_trials) == study_digest(elsewhere) == study_digest(one)


def test_a_run_is_known_by_its_study_and_starting_weights(tmp_path: Path) -> None:
    settings = read_settings("digits_dit")
    (tmp_path / "space.yaml").write_text(dump_settings(settings))
    found = identity_of_run(tmp_path)
    assert found["study_digest"] == study_digest(settings)
    assert found["pretrained"].startswith("sha256:")
    random = replace(settings, backbone=replace(settings.backbone, checkpoint=None))
    (tmp_path / "space.yaml").write_text(dump_settings(random))
    assert identity_of_run(tmp_path)["study_digest"] == found["study_digest"]
    assert identity_of_run(tmp_path)["pretrained"] != found["pretrained"]


def test_how_shared_weights_were_tuned_belongs_to_the_study() -> None:
    shared = ["profile.start=shared", "profile.num_steps=400"]
    digests = {
        study_digest(read_settings("digits_dit", overrides))
        for overrides in (
            [],
            shared,
            [*shared, "profile.num_steps=200"],
            [*shared, "space.min_depth=3"],
        )
    }
    assert len(digests) == 4
    alone = read_settings("digits_dit", ["profile.num_steps=400"])  # no weights come of it
    assert study_digest(alone) == study_digest(read_settings("digits_dit"))
