"""Rows joined with their latencies: order, front, differences, and what is refused."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from driving import record_of, settings_of
from made_up_methods import FULL_MS, ROWS, latency_of, methods_of, rival_of

from schedsearch.exceptions import ConfigError, NoResultError
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.runs.methods.entry import method_row
from schedsearch.runs.methods.joined import check_comparable
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.runs.methods.results import MethodResults
from schedsearch.runs.pick import pick
from schedsearch.runs.results import RunResults
from schedsearch.settings import BackboneSettings, StudySettings

METHODS = methods_of()


def test_full_depth_is_its_own_baseline() -> None:
    full = METHODS.full()
    assert full is not None
    assert (full.ratio, full.ms) == (1.0, FULL_MS)  # whatever its second timing said


def test_methods_are_ordered_by_latency() -> None:
    assert [(e.name, e.ms) for e in METHODS.all()] == [
        ("steps-12", 60.0),
        ("deediff-0.7-twin", 70.0),
        ("deediff-0.7", 80.0),
        ("full", 100.0),
    ]


def test_the_front_keeps_full_depth() -> None:
    assert [e.name for e in METHODS.front()] == ["steps-12", "deediff-0.7-twin", "full"]
    better = [replace(ROWS[0], qualities=ROWS[3].qualities), *ROWS[1:]]
    assert [e.name for e in methods_of(better).front()][-1] == "full"


def test_differences_are_paired_by_held_out_seed() -> None:
    full = METHODS.full()
    assert full is not None
    found = METHODS.entries[1].against(full)
    assert found is not None
    assert found.mean == pytest.approx(0.9)
    assert found.half_width == pytest.approx(0.0, abs=1e-9)
    assert METHODS.entries[1].fid == 3.0
    assert METHODS.entries[1].shown_fid == pytest.approx(3.1)


def test_unequal_numbers_of_images_are_never_paired() -> None:
    """Full depth has held-out seeds of 500 images, the trial none, and another row of 64."""
    many = replace(ROWS[0], confirm_samples=500)
    trials = [record_of(1, (5,) * 10, 2.2, 50.0)]
    methods = methods_of([many, *ROWS[1:]], trials=trials)
    full, steps = methods.entries[:2]
    assert steps.against(full) is None
    seeds = [replace(ROWS[2], training_seed=seed) for seed in (0, 1)]
    assert methods_of([many, *seeds]).entries[1].against(full) is None
    trial = next(entry for entry in methods.all() if entry.trial is not None)
    assert trial.against(full) is None
    rows = {row["name"]: row for row in methods.as_rows()}
    counts = ("num_samples", "confirm_seeds", "confirm_samples")
    assert [rows["full"][key] for key in counts] == [64, 3, 500]
    assert [rows["trial 1"][key] for key in counts] == [64, 0, None]
    assert rows["trial 1"]["fid_held_out"] is None
    assert rows["full"]["fid_held_out"] == pytest.approx(2.2)


def test_differences_are_over_training_seeds_where_there_are_two() -> None:
    seeds = [replace(ROWS[2], training_seed=seed) for seed in (0, 1)]
    worse = replace(seeds[1], qualities=ROWS[1].qualities)
    methods = methods_of([ROWS[0], seeds[0], worse])
    full, deediff = methods.entries
    found = deediff.against(full)
    assert found is not None
    assert found.num_seeds == 2
    assert found.mean == pytest.approx((0.5 + 0.9) / 2)


def test_the_newest_line_of_a_row_counts() -> None:
    failed = RivalRecord(
        name="full", entry="full", kind="schedule", training_seed=None, config_sha256="x",
        failed="it broke",
    )  # fmt: skip
    assert [r.name for r in methods_of([ROWS[0], failed]).failed] == ["full"]
    again = methods_of([failed, ROWS[0]])
    assert (again.failed, [e.name for e in again.entries]) == ([], ["full"])


def test_a_latency_of_other_settings_is_not_shown() -> None:
    changed = replace(ROWS[1], config_sha256="other settings")
    methods = methods_of([ROWS[0], changed])
    assert methods.entries[1].ms is None
    assert [e.name for e in methods.all()] == ["full"]


def test_other_protocols_start_new_latencies() -> None:
    assert METHODS.latency_data({"device": "gpu"})["rows"] == {}
    assert set(METHODS.latency_data({"device": "cpu"})["rows"]) == {e.name for e in METHODS.all()}


def test_schedules_of_the_search_join_unless_a_row_has_their_name() -> None:
    trials = [
        record_of(0, (10,) * 10, 2.0, 100.0, label="full"),
        record_of(1, (5,) * 10, 2.2, 50.0),
    ]
    methods = methods_of(trials=trials)
    joined = {e.name: e for e in methods.all()}
    assert joined["trial 1"].trial is not None
    assert joined["trial 1"].share == pytest.approx(0.5)
    row = method_row(joined["trial 1"], methods.full())
    assert (row["method"], row["trial"], row["depths"]) == ("schedule", 1, [5] * 10)
    assert joined["full"].trial is None


def test_the_share_of_a_u_vit_counts_its_encoder() -> None:
    """Depth 3 of 6 everywhere runs 10 of 13 blocks; the solver asks the last interval twice."""
    uvit = {
        "family": "uvit", "checkpoint": None,
        "config": {
            "img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 64, "depth": 12,
            "num_heads": 4,
        },
    }  # fmt: skip
    settings = settings_of()
    settings = replace(settings, backbone=BackboneSettings(**uvit))
    trials = [record_of(1, (3,) * 10, 2.2, 50.0), record_of(2, (6,) * 9 + (0,), 2.1, 60.0)]
    visits = (1,) * 9 + (2,)
    report = LatencyReport(table={}, full_ms=100.0, visits=visits)

    def shares(settings: StudySettings) -> list[float | None]:
        run = RunResults(settings, trials, report, [])
        return [entry.share for entry in MethodResults(run, [], latency_of({})).searched()]

    assert shares(settings) == [pytest.approx(10 / 13), pytest.approx(1 - 2 * 6 / (13 * 11))]
    custom = replace(settings, backbone=BackboneSettings(family="a.b:C"))
    assert shares(custom) == [None, None]


def test_rules_of_pick_hold_for_methods() -> None:
    found, why = pick(METHODS.require_front(), METHODS.full(), max_latency_ms=65.0)
    assert (found.name, "of 1 points" in why) == ("steps-12", True)


def test_csv_has_one_line_per_method() -> None:
    rows = list(csv.DictReader(io.StringIO(METHODS.as_csv())))
    assert [row["name"] for row in rows] == [e.name for e in METHODS.all()]
    assert rows[0]["method"] == "steps"
    assert float(rows[0]["acceleration"]) == pytest.approx(0.4)


def test_nothing_measured() -> None:
    with pytest.raises(NoResultError, match="Run `schedsearch compare SPACE`"):
        methods_of([], {}).require_front()


def test_unequal_protocols_do_not_compare() -> None:
    other = [replace(row, protocol="another") for row in ROWS]
    check_comparable({"a": METHODS, "b": methods_of()})
    with pytest.raises(ConfigError, match="a and b differ in their quality protocol"):
        check_comparable({"a": METHODS, "b": methods_of(other)})
    latency = {**latency_of({}), "protocol": {"device": "gpu"}}
    gpu = MethodResults(METHODS.run, ROWS, latency)
    with pytest.raises(ConfigError, match="latency protocol"):
        check_comparable({"a": METHODS, "b": gpu})


def test_runs_without_rows_compare_by_the_protocol_of_their_trials() -> None:
    def searched(protocol: str, **evaluation: Any) -> MethodResults:
        trial = record_of(0, (10,) * 10, 2.0, 100.0, label="full")
        assert trial.evaluation is not None
        trial = replace(trial, evaluation=replace(trial.evaluation, protocol=protocol))
        table = {"protocol": {"device": "cpu", "solver_options": ""}}
        run = RunResults(
            settings_of(evaluation=evaluation),
            [trial],
            LatencyReport(table=table, full_ms=1.0),
            [],
        )
        return MethodResults(run, [], {})

    same = searched("0123456789abcdef")
    check_comparable({"a": same, "b": METHODS, "c": same})
    for other, what in (
        (searched("another"), "quality"),
        (searched("0123456789abcdef", confirm_seeds=2), "num_seeds"),
        (searched("0123456789abcdef", confirm_samples=9), "confirm_samples"),
    ):
        with pytest.raises(ConfigError, match=f"a and b differ in their {what} protocol"):
            check_comparable({"a": same, "b": other})


def test_a_record_survives_its_line() -> None:
    assert [RivalRecord.from_json(row.to_json()) for row in ROWS] == ROWS
    for line in ("[]", "{}", rival_of("a", [1.0]).to_json().replace("fid", "fed")):
        with pytest.raises(ValueError, match=r"RivalRecord|SeedQuality|row of a comparison"):
            RivalRecord.from_json(line)


def test_rows_that_decide_by_other_batches_do_not_compare() -> None:
    def deciding(batch: int | None) -> MethodResults:
        return methods_of([*ROWS[:2], replace(ROWS[2], decision_batch=batch), ROWS[3]])

    check_comparable({"a": deciding(75), "b": deciding(75)})
    with pytest.raises(ConfigError, match=r"batch of deediff-0\.7: 75 images and 100 images"):
        check_comparable({"a": deciding(75), "b": deciding(100)})
    with pytest.raises(ConfigError, match=r"deediff-0\.7: each image by itself and 4 images"):
        check_comparable({"a": METHODS, "b": deciding(4)})
    check_comparable({"a": deciding(75), "b": methods_of(ROWS[:2])})
    rows = {row["name"]: row["decision_batch"] for row in deciding(75).as_rows()}
    assert rows == {"full": None, "steps-12": None, "deediff-0.7": 75, "deediff-0.7-twin": None}


def test_some_entries_are_shown_with_full_depth() -> None:
    results = methods_of()
    assert [e.name for e in results.only(["steps"]).all()] == ["steps-12", "full"]
    assert {e.name for e in results.only(["deediff-0.7"]).all()} == {"deediff-0.7", "full"}
    assert len(results.only([]).all()) == len(results.all())
    with pytest.raises(ConfigError, match="got 'stepz'; there are deediff, full, steps"):
        results.only(["stepz"])
