"""What makes a row of a comparison run again."""

from dataclasses import replace

from driving import settings_of

from schedsearch.runs.methods.digests import decision_batch_in, digest_of, rivals_in
from schedsearch.settings import StudySettings
from schedsearch.settings.rows import rows_of

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
