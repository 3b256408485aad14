"""Which networks and rows a comparison hands out, by training seed."""

from typing import Any

from driving import settings_of

from schedsearch.search.stages.rivals import network_jobs, rivals_in, row_jobs
from schedsearch.settings.rows import rows_of

RIVALS: dict[str, Any] = {
    "flat": {"kind": "schedule", "schedules": ["flat-7"]},
    "untuned": {"kind": "schedule", "schedules": ["flat-7"], "recipe": {"num_steps": 0}},
    "steps": {"kind": "steps", "num_steps": [2]},
}


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
