"""Which rows a comparison has, and what they are called."""

from dataclasses import replace

from schedsearch.settings.rivals import (
    FittedStepsRival,
    PrunedRival,
    ResidualCacheRival,
    ScheduleRival,
    SimilarityRival,
    StepsRival,
    StitchRival,
    UncertaintyRival,
)
from schedsearch.settings.rows import (
    Row,
    calibrates,
    completed_rivals,
    decides_by_batch,
    entry_of,
    rows_of,
)

TRAINER = "trainers.layerwise:LayerwiseTrainer"
DEEDIFF = UncertaintyRival(
    kind="uncertainty", trainer=TRAINER, targets=(0.9, 0.6), thresholds=(0.05,)
)


def test_every_comparison_has_fewer_steps_and_a_flat_exit() -> None:
    found = completed_rivals({}, num_steps=20, num_blocks=10)
    assert found["steps"] == StepsRival(kind="steps", num_steps=(15, 12, 10))
    assert found["flat"] == ScheduleRival(kind="schedule", schedules=("flat-7",))


def test_own_entries_take_their_place() -> None:
    own = {
        "few": StepsRival(kind="steps", num_steps=(5,)),
        "mine": ScheduleRival(kind="schedule", schedules=("flat-3", "D3-DiT")),
    }
    assert completed_rivals(own, num_steps=20, num_blocks=10) == own


def test_an_own_entry_named_steps_stays_beside_plain_steps() -> None:
    own = {"steps": FittedStepsRival(kind="fitted_steps", num_steps=(12, 9))}
    found = completed_rivals(own, num_steps=20, num_blocks=10)
    assert found["steps"] == own["steps"]
    assert found["plain_steps"] == StepsRival(kind="steps", num_steps=(15, 12, 10))
    names = [row.name for row in rows_of(found, {})]
    assert {"steps-12", "steps-9", "plain_steps-12"} <= set(names)


def test_an_own_entry_named_flat_stays_beside_plain_flat() -> None:
    own = {"flat": PrunedRival(kind="pruned", depth=(8,))}
    found = completed_rivals(own, num_steps=20, num_blocks=10)
    assert found["flat"] == own["flat"]
    names = [row.name for row in rows_of(found, {})]
    assert {"flat-8", "plain_flat-flat-7"} <= set(names)


def test_rows_are_entries_at_points() -> None:
    rows = rows_of(
        {
            "deediff": DEEDIFF,
            "flat": ScheduleRival(kind="schedule", schedules=("flat-7", (3, 3), "full")),
            "on_it": ScheduleRival(kind="schedule", schedules=("flat-5",), weights="deediff"),
            "steps": StepsRival(kind="steps", num_steps=(12,)),
            "stitch": StitchRival(kind="stitch", small="pruned-8", shares=(0.4,)),
        },
        {"D3-DiT": (10, 4)},
    )
    assert rows[:2] == [
        Row(name="full", entry="full", point="full"),
        Row(name="D3-DiT", entry="presets", point="10 4", net="D3-DiT"),
    ]
    assert [(row.name, row.net, row.dynamic) for row in rows[2:]] == [
        ("deediff-0.9", "deediff", True),
        ("deediff-0.6", "deediff", True),
        ("deediff-t0.05", "deediff", True),
        ("flat-7", "flat-7", False),
        ("flat-1", "flat-1", False),
        ("flat-full", "flat-full", False),
        ("on_it-flat-5", "deediff", False),
        ("steps-12", None, False),
        ("stitch-0.4", "pruned-8", False),
    ]


def test_exits_in_the_encoder_have_no_twin() -> None:
    all_blocks = replace(DEEDIFF, exits="all")
    rows = rows_of({"deediff": DEEDIFF, "all": all_blocks}, {})[1:]
    assert {row.entry: row.has_twin for row in rows} == {"deediff": True, "all": False}
    assert all(row.dynamic for row in rows)


def test_presets_and_full_depth_are_schedules() -> None:
    row = Row(name="D3-DiT", entry="presets", point="10 4", net="D3-DiT")
    assert entry_of(row, {}) == ScheduleRival(kind="schedule", schedules=("10 4",))
    deediff = Row(name="deediff-0.9", entry="deediff", point=0.9)
    assert entry_of(deediff, {"deediff": DEEDIFF}) is DEEDIFF


def test_only_targets_and_plans_are_calibrated() -> None:
    assert calibrates(DEEDIFF)
    raw = SimilarityRival(kind="similarity", trainer=TRAINER, thresholds=(0.9,))
    assert not calibrates(raw)
    assert not calibrates(ResidualCacheRival(kind="residual_cache", signal="steps", every=(2,)))


def test_what_decides_by_batch() -> None:
    assert not decides_by_batch(DEEDIFF)
    assert decides_by_batch(replace(DEEDIFF, decide="batch"))
    assert decides_by_batch(
        ResidualCacheRival(kind="residual_cache", signal="residual", thresholds=(0.2,))
    )
    # Every other step: nothing is decided by images, whatever ``decide`` says.
    fixed = ResidualCacheRival(kind="residual_cache", signal="steps", every=(2,), decide="batch")
    assert not decides_by_batch(fixed)
    assert not decides_by_batch(StepsRival(kind="steps", num_steps=(5,)))
