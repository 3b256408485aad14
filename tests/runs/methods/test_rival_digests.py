"""What makes a row of a comparison run again."""

from dataclasses import replace
from typing import Any

from driving import settings_of
from made_up_methods import rival_of

from schedsearch.runs.methods.digests import (
    current_records,
    decision_batch_in,
    digest_of,
    rivals_in,
)
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings import StudySettings
from schedsearch.settings.rows import TWIN, rows_of

TRAINER = "trainers.layerwise:LayerwiseTrainer"
SETTINGS = settings_of(
    rivals={
        "calm": {"kind": "similarity", "trainer": TRAINER, "targets": [0.7]},
        "together": {
            "kind": "similarity",
            "trainer": TRAINER,
            "targets": [0.7],
            "decide": "batch",
        },
        "teacache": {"kind": "residual_cache", "signal": "input", "first": 0, "targets": [0.7]},
        "deepcache": {"kind": "residual_cache", "signal": "steps", "every": [2]},
    }
)


def with_batch(size: int) -> StudySettings:
    return replace(SETTINGS, evaluation=replace(SETTINGS.evaluation, batch_size=size))


def test_the_batch_belongs_to_rows_that_decide_by_it_and_to_no_other() -> None:
    small, large = with_batch(4), with_batch(100)
    rows = {row.name: row for row in rows_of(rivals_in(SETTINGS), {})}
    changed = {
        name for name, row in rows.items() if digest_of(small, row, 0) != digest_of(large, row, 0)
    }
    assert changed == {"together-0.7", "teacache-0.7"}
    found = {name: decision_batch_in(small, row) for name, row in rows.items()}
    assert {name for name, batch in found.items() if batch is not None} == changed
    assert found["together-0.7"] == 4


def test_a_further_target_changes_no_row() -> None:
    (before,) = (r for r in rows_of(SETTINGS.rivals, {}) if r.name == "calm-0.7")
    more = dict(SETTINGS.rivals)
    more["calm"] = replace(more["calm"], targets=(0.7, 0.9))  # type: ignore[call-arg]
    assert digest_of(replace(SETTINGS, rivals=more), before, 0) == digest_of(SETTINGS, before, 0)


def recorded(settings: StudySettings, name: str, seed: int | None, **changes: Any) -> RivalRecord:
    """A record of a row as these settings make it."""
    row = {row.name: row for row in rows_of(rivals_in(settings), {})}[name.removesuffix(TWIN)]
    values = {"entry": row.entry, "training_seed": seed, **changes}
    return rival_of(name, [1.0], config_sha256=digest_of(settings, row, seed), **values)


def test_records_of_other_settings_do_not_count() -> None:
    """An entry was edited and its seed 0 measured again; a point of another one is gone."""
    trainer = {"trainer": TRAINER, "kind": "similarity"}
    flat = {"kind": "schedule", "schedules": ["flat-7", "flat-3"]}
    old = settings_of(rivals={"calm": {**trainer, "targets": [0.7]}, "flat": flat})
    new = settings_of(
        rivals={
            "calm": {**trainer, "targets": [0.7, 0.9], "recipe": {"num_steps": 9}},
            "flat": {**flat, "schedules": ["flat-7"]},
        }
    )
    full = rival_of("full", [1.0])
    edited = [recorded(new, "calm-0.7", 0), recorded(new, "calm-0.7-twin", 0)]
    left = [recorded(old, "calm-0.7", 1), recorded(old, "calm-0.7-twin", 1)]
    kept, removed = recorded(old, "flat-7", 0), recorded(old, "flat-3", 0)
    records = [full, *edited, *left, kept, removed]
    assert current_records(records, new) == [full, *edited, kept]


def test_a_plan_of_another_start_counts_if_it_was_calibrated_alike() -> None:
    """``schedsearch plan`` takes further targets, which no space names."""
    named = settings_of(plan={"targets": [0.5], "fit_images": 16})
    plan = recorded(named, "plan-0.5", None, entry="plan")
    for targets in ([0.5], [0.7]):
        for fit_images, counts in ((16, [plan]), (24, [])):
            now = settings_of(plan={"targets": targets, "fit_images": fit_images})
            assert current_records([plan], now) == counts
    default = recorded(settings_of(plan={}), "plan-0.62", None, entry="plan")
    assert current_records([default], settings_of(plan=None)) == [default]
