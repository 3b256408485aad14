"""What is made of the results of a run."""

import csv
import io
from dataclasses import replace

import pytest
from driving import confirm_of, record_of, settings_of
from rich.console import Console
from schedsearch.statistics.findings import RunFindings

from schedsearch.planning.error_table import ErrorTable
from schedsearch.records import ConfirmRecord
from schedsearch.report.conclusions import conclusions
from schedsearch.report.findings import findings_of
from schedsearch.report.tables import front_table
from schedsearch.runs.front_files import front_as_csv, front_rows
from schedsearch.runs.results import LatencyReport, MeasuredLatency, RunResults
from schedsearch.schedules.hand_made import FULL

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 3.0, 80.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 2.5, 70.0),
    record_of(3, (7,) * 10, 2.8, 60.0),
    record_of(4, (6,) * 10, 3.1, 50.0),
    record_of(5, (5,) * 10, 3.4, 40.0),  # on the front, never confirmed
]
SEEDS = (1, 2, 3)
VISITS = (0, 0, 0, 1, 0, 0, 1, 0, 0, 1)
TRUE = {0: 2.0, 1: 3.0, 2: 2.6, 3: 2.9, 4: 3.2}
"""The searched ones were flattered by 0.1; the seeds' own shift is 0.5."""


def confirmations(**changes: object) -> list[ConfirmRecord]:
    noise = {1: 0.0, 2: 0.1, 3: -0.1}
    return [
        replace(confirm_of(n, seed, fid + 0.5 + noise[seed]), **changes)
        for n, fid in TRUE.items()
        for seed in SEEDS
    ]


def found_in(fresh: list[ConfirmRecord], table: ErrorTable | None = None) -> RunFindings:
    settings = settings_of(evaluation={"confirm_seeds": 3})
    latency = None if table is None else LatencyReport(table={}, full_ms=100.0, visits=VISITS)
    return findings_of(RunResults(settings, RECORDS, latency, fresh), table)


def test_all_that_is_said_of_a_schedule() -> None:
    found = found_in(confirmations())
    by_trial = {s.trial: s for s in (*found.schedules, *found.others)}
    assert set(by_trial) == set(range(6))
    rival = by_trial[2]
    assert rival.fresh == pytest.approx((3.1, 4.302653 * 0.1 / 3**0.5))  # t over three seeds
    assert rival.to_full is not None
    assert rival.to_full.mean == pytest.approx(0.6)
    assert rival.to_full.half_width == pytest.approx(0.0, abs=1e-9)  # the noise is common
    assert rival.membership is not None
    assert rival.membership.probability == 1.0
    assert by_trial[1].membership is not None
    assert by_trial[1].membership.dominated_by in (2, 3)
    assert found.rungs is not None
    assert found.rungs.tau == pytest.approx(1.0)
    assert found.rungs.num == 5


def test_the_unconfirmed_are_corrected_for_the_winners_curse() -> None:
    found = found_in(confirmations())
    assert found.curse is not None
    assert found.curse.flattery == pytest.approx(0.1)
    (unconfirmed,) = (s for s in found.schedules if s.fresh is None)
    assert unconfirmed.expected is not None
    assert unconfirmed.expected[0] == pytest.approx(3.4 + 0.1 + 0.5)
    # No surer than those that were confirmed, at three seeds each.
    assert unconfirmed.expected[1] == pytest.approx(4.302653 * 0.1 / 3**0.5)


def test_means_over_fine_tunes_are_no_luck_either() -> None:
    """Fresh seeds measure one of them."""
    settings = settings_of(evaluation={"confirm_seeds": 3, "seeds_per_trial": 2})
    records = [
        replace(r, evaluation=r.evaluation and replace(r.evaluation, num_finetunes=2))
        for r in RECORDS
    ]
    fresh = [replace(record, seed=record.seed + 1) for record in confirmations()]
    found = findings_of(RunResults(settings, records, None, fresh))
    assert found.schedules[-1].fresh is not None
    assert found.curse is None
    assert not found.fresh_alike
    assert found.fid_name == "FID (digits CNN, n=64, 2 fine-tunes)"


def test_nothing_is_dominated_by_a_latency_that_was_not_measured() -> None:
    """The machine was slower when it was measured than when the table was."""
    measured = {
        n: MeasuredLatency(latency_ms=ms, spread_ms=0.1, acceleration=0.0, repeats=9)
        for n, ms in ((0, 120.0), (1, 96.0), (3, 72.0))
    }
    latency = LatencyReport(table={}, full_ms=100.0, measured=measured, measured_after=6)
    settings = settings_of(evaluation={"confirm_seeds": 3})
    found = findings_of(RunResults(settings, RECORDS, latency, confirmations()))
    by_trial = {s.trial: s for s in (*found.schedules, *found.others)}
    preset, unmeasured = by_trial[1], by_trial[2]
    assert unmeasured.membership is None
    assert unmeasured.latency_ms == pytest.approx(70.0 * 1.2)  # at the pace of the others
    assert preset.membership is not None
    assert preset.membership.dominated_by == 3


def test_continued_fine_tunes_are_no_luck() -> None:
    found = found_in(confirmations(num_steps=100))
    assert found.curse is None
    assert found.fresh_fid_name == "FID (digits CNN, n=64, +100 steps)"
    assert not found.fresh_alike


def test_bootstrap_intervals_are_pooled_over_the_seeds() -> None:
    found = found_in(confirmations(fid_ci95=(1.0, 1.6), kid_ci95=(0.01, 0.03)))
    schedule = next(s for s in found.schedules if s.trial == 2)
    assert schedule.fresh is not None
    assert schedule.fresh_kid is not None
    assert schedule.fresh[1] == pytest.approx(0.3 / 3**0.5)
    assert schedule.fresh_kid[1] == pytest.approx(0.01 / 3**0.5)


@pytest.mark.parametrize("interval", [(1.0, 1.6), None])
def test_one_mean_has_one_interval_wherever_it_is_shown(
    interval: tuple[float, float] | None,
) -> None:
    settings = settings_of(evaluation={"confirm_seeds": 3})
    results = RunResults(settings, RECORDS, None, confirmations(fid_ci95=interval))
    found = findings_of(results)
    shown = {s.trial: s.fresh for s in found.schedules}
    (row,) = (row for row in front_rows(results.front()) if row["trial"] == 2)
    (line,) = (
        line
        for line in csv.DictReader(io.StringIO(front_as_csv(results.front())))
        if line["trial"] == "2"
    )
    assert row["fid_ci95_over"] == line["fid_ci95_over"] == ("images" if interval else "seeds")
    assert shown[2] is not None
    mean, half = shown[2]
    assert row["fid_confirmed"] == mean
    assert row["fid_ci95"] == [mean - half, mean + half]
    assert [float(bound) for bound in line["fid_ci95"].split()] == pytest.approx(
        row["fid_ci95"], rel=1e-5
    )
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(front_table(results))
    assert f"{mean:.3f} ± {half:.3f}" in capture.get()


def test_other_protocols_stay_out() -> None:
    fresh = confirmations()
    odd = [replace(r, num_samples=9, fid=1000.0) if r.number == 4 else r for r in fresh]
    found = found_in(odd)
    by_trial = {s.trial: s for s in found.schedules}
    assert by_trial[4].fresh is None
    assert by_trial[4].membership is None
    assert by_trial[2].fresh == pytest.approx((3.1, 4.302653 * 0.1 / 3**0.5))


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (-0.4, "gives the same verdicts"),
        (0.4, "it is worse than D2-DiT."),
        (0.0, "it is no different, as far as seen, from D2-DiT."),
    ],
)
def test_the_auditor(step: float, sentence: str) -> None:
    audited = [
        replace(r, audit_fid=50.0 + (step if r.number == 2 else 0.0), audit_features="lenet")
        for r in confirmations()
    ]
    found = found_in(audited)
    (preset,) = found.presets
    assert preset.comparison is not None
    assert preset.comparison.verdict == "better"
    assert preset.audit is not None
    (line,) = (line for line in conclusions(found, "runs/x") if "auditor" in line)
    assert sentence in line


def test_the_error_table_is_checked_against_the_fids() -> None:
    depths = tuple(range(2, 11))
    table = ErrorTable(
        depths=depths,
        losses=tuple(
            tuple(1.0 / d if calls else 100.0 * d**2 for d in depths) for calls in VISITS
        ),
        standard_errors=tuple((0.0,) * 9 for _ in range(10)),
        exits="uniform",
        num_steps=1,
        num_images=4,
        seed=0,
        seconds=1.0,
    )
    found = found_in([], table)
    assert found.table is not None
    assert found.table.num == 5  # without full depth, which would agree for nothing
    # D2 is worse than blocks say: 2 of 10 pairs off. Rows that no call reads change nothing.
    assert found.table.tau == pytest.approx(0.6)
    assert any("error table" in line for line in conclusions(found, "runs/x"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe": {"num_steps": 2}}, "Each schedule was fine-tuned once: another training"),
        (
            {"recipe": {"num_steps": 2}, "evaluation": {"seeds_per_trial": 3}},
            "All figures at fresh seeds come from the first of 3 fine-tunes of each schedule: an",
        ),
        (
            {"profile": {"num_steps": 3, "start": "shared"}},
            "Each schedule was fine-tuned once, from weights that all share: another training",
        ),
        (
            {"recipe": {"num_steps": 0}, "profile": {"num_steps": 3, "start": "shared"}},
            "All schedules share the weights of one fine-tune: another training seed may shift",
        ),
        ({"recipe": {"num_steps": 0}}, "one may well be wrong). No schedule was fine-tuned."),
    ],
)
def test_the_verdicts_say_how_many_fine_tunes_are_behind_them(
    changes: dict[str, dict[str, object]], sentence: str
) -> None:
    evaluation = {"confirm_seeds": 3, **changes.get("evaluation", {})}
    settings = settings_of(**{**changes, "evaluation": evaluation})
    later = settings.evaluation.seeds_per_trial - 1  # the fresh seeds follow those of trials
    records = [replace(record, seed=record.seed + later) for record in confirmations()]
    found = findings_of(RunResults(settings, RECORDS, None, records))
    assert any(sentence in line for line in conclusions(found, "runs/x"))
