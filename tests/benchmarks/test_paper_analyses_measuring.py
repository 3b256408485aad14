"""The papers' analyses: how a network is fine-tuned and measured."""

from __future__ import annotations

import dataclasses
import math

import pytest
from tiny_analyses import row

from benchmarks.paper_analyses import __main__ as command
from benchmarks.paper_analyses.analyses import D7, FULL
from benchmarks.paper_analyses.cases import Case, Measurement, Tuning
from benchmarks.paper_analyses.measuring import FIRST_EVALUATION_SEED, Job, Row, run_job
from schedsearch.config import dump_settings, read_settings
from schedsearch.settings import LambdaSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("reference"))


def measure(folder: str, tuning: Tuning, *rows: Measurement, replicate: int = 0) -> dict[str, Row]:
    settings = read_settings("digits_dit", command.OVERRIDES)
    job = Job(
        case=Case(tuning=tuning, measurements=rows),
        replicate=replicate,
        evaluations=1,
        num_samples=40,
        settings=dump_settings(settings),
        reference_dir=folder,
    )
    return {row.key.partition(" | ")[2]: row for row in run_job(job).rows}


def test_a_tuned_network_counts_only_in_its_interval(folder: str) -> None:
    plain = measure(folder, Tuning(kind="pretrained"), row("plain"))["plain"]
    tuned = measure(
        folder,
        Tuning(kind="schedule", depths=D7, num_steps=3),
        row("never visited", tuned_interval=5),
        row("visited", tuned_interval=6),
        row("everywhere"),
    )
    assert tuned["never visited"].fid == plain.fid
    assert len({plain.fid, tuned["visited"].fid, tuned["everywhere"].fid}) == 3
    assert plain.blocks == 1.0
    assert plain.audit_fid not in (plain.fid, tuned["everywhere"].audit_fid)


def test_replicates_differ_in_training_and_in_noise_and_repeat(folder: str) -> None:
    tuning = Tuning(kind="schedule", depths=D7, num_steps=2)
    first, again = (measure(folder, tuning, row("a", depths=D7))["a"] for _ in range(2))
    other = measure(folder, tuning, row("a", depths=D7), replicate=1)["a"]
    assert first == again
    assert (first.replicate, first.evaluation_seed) == (0, FIRST_EVALUATION_SEED)
    assert (other.replicate, other.evaluation_seed) == (1, FIRST_EVALUATION_SEED + 1)
    assert first.fid != other.fid
    assert first.blocks == pytest.approx((D7[3] + D7[6] + D7[9]) / 30)


@pytest.mark.parametrize("kind", ["experts", "uniform exits", "random schedules"])
def test_every_kind_of_tuning_changes_the_network(folder: str, kind: str) -> None:
    tuning = Tuning(kind=kind, depths=FULL, num_steps=1, ema_decay=0.0)  # type: ignore[arg-type]
    plain = measure(folder, Tuning(kind="pretrained"), row("a"))["a"]
    tuned = measure(folder, tuning, row("a"))["a"]
    assert math.isfinite(tuned.fid)
    assert tuned.fid != plain.fid


def test_the_recipe_of_a_row_reaches_the_trainer(folder: str) -> None:
    tuning = Tuning(kind="schedule", depths=D7, num_steps=2, ema_decay=0.0)
    changes = [
        {},
        {"ema_decay": 0.9},
        {"num_steps": 3},
        {"lambda_weighting": LambdaSettings(kind="none")},
        {"depths": FULL},
    ]
    fids = {
        measure(folder, dataclasses.replace(tuning, **change), row("a"))["a"].fid  # type: ignore[arg-type]
        for change in changes
    }
    assert len(fids) == len(changes)
