"""Which networks and rows a comparison hands out, by training seed."""

from typing import Any

from driving import settings_of
from made_up_methods import rival_of

from schedsearch.runs.methods.digests import digest_of
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.search.stages.rivals import network_jobs, rivals_in, row_jobs
from schedsearch.settings import StudySettings
from schedsearch.settings.rows import rows_of

RIVALS: dict[str, Any] = {
    "flat": {"kind": "schedule", "schedules": ["flat-7"]},
    "untuned": {"kind": "schedule", "schedules": ["flat-7"], "recipe": {"num_steps": 0}},
    "steps": {"kind": "steps", "num_steps": [2]},
}


RIVAL = {
    "kind": "similarity",
    "trainer": "trainers.layerwise:LayerwiseTrainer",
    "targets": [0.7],
}
CALM = settings_of(rivals={"calm": RIVAL})


def jobs_of() -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    evaluation = {"confirm_seeds": 2, "confirm_training_seeds": 2}
    settings = settings_of(rivals=RIVALS, evaluation=evaluation, recipe={"num_steps": 3})
    rows = [row for row in rows_of(rivals_in(settings), {}) if row.name != "full"]
    nets = network_jobs(rows, settings, "text", "run")
    measured = row_jobs(rows, settings, "text", "run", [])
    return (
        [(job.row.name, job.training_seed) for job in nets],
        [(job.row.name, job.training_seed) for job in measured],
    )


def test_what_is_trained_has_all_seeds_and_the_rest_one() -> None:
    nets, rows = jobs_of()
    assert sorted(nets) == [("flat-7", 0), ("flat-7", 1), ("untuned-flat-7", 0)]
    assert sorted(rows, key=str) == [
        ("flat-7", 0), ("flat-7", 1), ("steps-2", None), ("untuned-flat-7", 0),
    ]  # fmt: skip
    assert rows[-1] == ("flat-7", 1)  # all rows with one seed come first


def left_after(*records: RivalRecord) -> list[tuple[str, Any]]:
    """Rows that are measured again, by what was recorded."""
    rows = [row for row in rows_of(rivals_in(CALM), {}) if row.entry == "calm"]
    return [(j.row.name, j.training_seed) for j in row_jobs(rows, CALM, "text", "run", records)]


def measured(name: str, settings: StudySettings) -> RivalRecord:
    (row,) = (r for r in rows_of(rivals_in(settings), {}) if r.entry == "calm")
    digest = digest_of(settings, row, 0)
    return rival_of(name, [1.0], entry="calm", training_seed=0, config_sha256=digest)


def test_a_row_without_its_twin_is_measured_again() -> None:
    """The driver was killed between the two lines."""
    row, twin = measured("calm-0.7", CALM), measured("calm-0.7-twin", CALM)
    assert left_after() == left_after(row) == left_after(twin) == [("calm-0.7", 0)]
    assert left_after(row, twin) == []


def test_only_the_newest_record_of_a_row_has_its_files() -> None:
    """Settings that were changed and changed back are measured again."""
    edited = {"calm": {**RIVAL, "recipe": {"num_steps": 9}}}
    names = ("calm-0.7", "calm-0.7-twin")
    now = [measured(name, CALM) for name in names]
    other = [measured(name, settings_of(rivals=edited)) for name in names]
    assert left_after(*now, *other) == [("calm-0.7", 0)]
    assert left_after(*other, *now) == []
