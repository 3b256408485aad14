"""What is read from a run: latencies, confirmations, front and hypervolume."""

from dataclasses import replace
from pathlib import Path

import pytest
from driving import confirm_of, record_of, settings_of
from schedsearch.search.raised_rung import RaisedRung

from schedsearch.exceptions import StorageError
from schedsearch.records import TrialRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import (
    LatencyReport,
    MeasuredLatency,
    RunResults,
    hypervolume_in_box,
    hypervolume_of,
)
from schedsearch.schedules.hand_made import FULL

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 40.0),
    record_of(3, (7,) * 10, None),
    record_of(4, (6,) * 10, 2.5, 60.0),
]


def measured(latency: float, acceleration: float = 0.3) -> MeasuredLatency:
    return MeasuredLatency(latency_ms=latency, spread_ms=1.0, acceleration=acceleration, repeats=3)


def results_of(
    records: list[TrialRecord] = RECORDS, report: LatencyReport | None = None
) -> RunResults:
    return RunResults(settings_of(), records, report, [])


def test_views() -> None:
    results = results_of()
    assert [e.trial for e in results.entries] == [0, 1, 2, 4]
    assert [e.trial for e in results.front()] == [2, 4, 0]  # by latency
    assert results.full() == results.entries[0]
    assert [e.trial for e in results.hand_made()] == [1]
    assert [e.trial for e in results.searched()] == [2, 4]
    assert [e.title for e in results.entries] == [FULL, "D2-DiT", "trial 2", "trial 4"]
    assert results.num_failed == 1


def test_a_failure_that_was_made_good_is_none() -> None:
    assert results_of([*RECORDS, record_of(5, (7,) * 10)]).num_failed == 0


def test_accelerations_by_prediction_and_by_measurement() -> None:
    report = LatencyReport(table={}, full_ms=100.0)
    assert [e.acceleration for e in results_of(report=report).entries] == [0.0, 0.5, 0.6, 0.4]
    report = LatencyReport(table={}, full_ms=100.0, measured={2: measured(44.0, 0.55)})
    entry = results_of(report=report).entries[2]
    assert (entry.latency_ms, entry.latency_spread_ms, entry.latency_source) == (
        44.0,
        1.0,
        "measured",
    )
    assert (entry.predicted_latency_ms, entry.acceleration) == (40.0, 0.55)


def test_measured_and_predicted_latencies_never_share_a_front() -> None:
    report = LatencyReport(
        table={}, full_ms=100.0, measured={0: measured(90.0), 1: measured(48.0)}
    )
    assert [e.trial for e in results_of(report=report).front()] == [1, 0]


def test_the_hypervolume_does_not_mix_them_either() -> None:
    """A machine that became slower must not turn predicted latencies into a gain."""
    report = LatencyReport(
        table={}, full_ms=100.0, measured={0: measured(120.0), 1: measured(60.0)}
    )
    results = results_of(report=report)
    assert results.hypervolume() == results.hypervolume(results.entries[:2])
    assert results.drift == pytest.approx(1.2)
    assert results_of().drift == 1.0


def test_latencies_of_the_trials_own_workers_count_until_the_last_measurement() -> None:
    plain = [record_of(n, (10 - n,) * 10, 2.0 + n, 100.0 - 10 * n) for n in range(3)]
    records = []
    for record in plain:
        assert record.evaluation is not None
        own = replace(record.evaluation, latency_source="measured")
        records.append(replace(record, evaluation=own))
    first = LatencyReport(table={}, full_ms=100.0)
    assert [e.trial for e in results_of(records, first).front()] == [2, 1, 0]
    last = LatencyReport(table={}, full_ms=100.0, measured={0: measured(110.0), 2: measured(88.0)})
    results = results_of(records, last)
    assert [e.latency_source for e in results.entries] == ["measured", "in place", "measured"]
    assert [e.trial for e in results.front()] == [2, 0]


RAISED = RaisedRung(tau=-0.2, num_schedules=5, num_steps=0)


def test_a_raised_rung_forms_the_front_by_fresh_seeds() -> None:
    settings = settings_of(evaluation={"confirm_seeds": 2, "seed": 0})
    fids = {0: 2.0, 1: 2.2, 2: 5.0}  # the second was good, the third was lucky
    seeds = [confirm_of(n, seed, fid) for n, fid in fids.items() for seed in (1, 2)]
    seeds.append(confirm_of(4, 1, 0.1))  # not at all seeds yet
    low = RunResults(settings, RECORDS, None, seeds)
    assert [e.trial for e in low.front()] == [2, 4, 0]
    results = RunResults(settings, RECORDS, None, seeds, RAISED)
    assert [e.trial for e in results.front()] == [2, 1, 0]
    assert [(e.fid, e.fid_search) for e in results.front()] == [(5.0, 3.0), (2.2, 4.0), (2.0, 2.0)]
    rivals = [found.rival_of(found.hand_made()[0]) for found in (low, results)]
    assert [rival and rival.trial for rival in rivals] == [2, 2]  # chosen by the search's FIDs


def test_latencies_go_by_the_table_that_the_run_has_now() -> None:
    """Not by that of a first start with other resources."""
    table = {"c0_ms": 1.0, "a_ms": 2.0, "b_ms": 0.5}
    report = LatencyReport(table=table, full_ms=70.0, visits=(0, 0, 1, 1, 0, 0, 0, 0, 0, 1))
    records = [
        record_of(0, (9,) * 10, 2.0, 333.0),
        record_of(1, (9, 9, 9, 9, *(8,) * 6), 2.0, 9.0),
    ]
    entries = RunResults(settings_of(), records, report, []).entries
    assert [e.predicted_latency_ms for e in entries] == [1 + 3 * 2 + 27 / 2, 1 + 3 * 2 + 26 / 2]
    assert [e.latency_ms for e in entries] == [e.predicted_latency_ms for e in entries]
    bare = RunResults(settings_of(), records, replace(report, visits=()), []).entries
    assert [e.latency_ms for e in bare] == [333.0, 9.0]


def test_confirmations() -> None:
    seeds = [confirm_of(1, 1, 3.0), confirm_of(1, 2, 5.0), confirm_of(2, 1, 3.0)]
    results = RunResults(settings_of(evaluation={"confirm_seeds": 5}), RECORDS, None, seeds)
    entry = results.entries[1]
    assert entry.fid == 4.0  # the search's own value stays
    assert (entry.fid_confirmed, entry.confirm_seeds) == (4.0, 2)
    assert entry.fid_ci95 == pytest.approx((4.0 - 12.706205, 4.0 + 12.706205))
    assert entry.fid_ci95_over == "seeds"
    lone = results.entries[2]  # one value has no interval
    assert (lone.fid_confirmed, lone.fid_ci95, lone.fid_ci95_over) == (None, None, None)


def test_a_runoff_over_training_seeds_hears_these_alone() -> None:
    settings = settings_of(
        evaluation={
            "confirm_seeds": 2,
            "runoff_seeds": 2,
            "runoff_training_seeds": 2,
            "confirm_training_seeds": 2,
        }
    )
    training = settings.runoff_training_seeds_used
    seeds = settings.evaluation.runoff_seeds_used
    fids = {2: 8.0, 4: 7.0}  # the contender with the worse FID of the search wins
    runoff = [confirm_of(n, s, fid, t) for n, fid in fids.items() for t in training for s in seeds]
    noise = [confirm_of(2, s, 0.0) for s in seeds]  # of the trial's own weights
    noise += [
        confirm_of(2, s, 0.0, t) for t in settings.confirm_training_seeds_used for s in seeds
    ]
    records = [*RECORDS[:3], record_of(4, (6,) * 10, 9.0, 20.0)]
    results = RunResults(settings, records, None, [*noise, *runoff])
    (preset,) = results.hand_made()
    assert [e.trial for e in results.contenders_for(preset)] == [2, 4]
    rival = results.rival_of(preset)
    assert rival is not None
    assert rival.trial == 4
    unfinished = RunResults(settings, records, None, [*noise, *runoff[:-1]]).rival_of(preset)
    assert unfinished is not None
    assert unfinished.trial == 2


def test_verdicts_over_training_seeds_replace_those_over_seeds() -> None:
    settings = settings_of(
        evaluation={"confirm_seeds": 2, "runoff_seeds": 0, "confirm_training_seeds": 3}
    )
    seeds = settings.evaluation.confirm_seeds_used
    own = [confirm_of(n, s, 3.0 - n + s / 10) for n in (1, 2) for s in seeds]
    anew = [
        replace(confirm_of(n, s, 3.0 + n + t / 10 + s, t), audit_fid=3.0 - 2 * n)
        for n in (1, 2)
        for t in settings.confirm_training_seeds_used
        for s in seeds
    ]
    first = [record for record in anew if record.training_seed == 1]
    (before,) = RunResults(settings, RECORDS, None, [*own, *first]).comparisons()
    assert (before.difference, before.num_training_seeds) == (pytest.approx(-1.0), 0)
    results = RunResults(settings, RECORDS, None, [*own, *anew])
    (found,) = results.comparisons()
    assert (found.preset, found.rival) == (1, 2)
    assert (found.difference, found.num_training_seeds) == (pytest.approx(1.0), 3)
    (audit,) = results.audit()
    assert (audit.difference, audit.num_training_seeds) == (pytest.approx(-2.0), 3)
    # Fine-tunes anew are no further values of the trial's own weights.
    assert results.entries[1].fid_confirmed == pytest.approx(2.15)
    assert results.fids_by_seed(2) == {s: pytest.approx(1.0 + s / 10) for s in seeds}


def test_hypervolume_is_a_share_of_the_box() -> None:
    full = (2.0, 100.0)
    assert hypervolume_in_box([full], full) == pytest.approx(2.0 * 0.01 / (3.0 * 1.01))
    ideal = [(1e-9, 1e-9)]
    assert hypervolume_in_box(ideal, full) == pytest.approx(1.0)
    assert hypervolume_in_box([(7.0, 50.0)], full) == 0.0  # beyond 3 x FID
    assert hypervolume_in_box(ideal, None) is None
    assert hypervolume_in_box(ideal, (0.0, 1.0)) is None
    assert results_of().hypervolume() == hypervolume_of(RECORDS)
    assert results_of([RECORDS[2]]).hypervolume() is None
    results = results_of()
    assert results.hypervolume(results.entries[:1]) == pytest.approx(0.02 / 3.03)


def test_latency_report_on_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert LatencyReport.load(folder) is None
    report = LatencyReport(
        table={"a_ms": 1.0}, full_ms=9.0, measured={12: measured(3.0)}, full_measured_ms=8.5
    )
    report.save(folder)
    assert LatencyReport.load(folder) == report


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"table": {}}', '{"measured": 3}', '{"measured": {"x": {}}}']
)
def test_a_damaged_latency_report(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.latency_file.write_text(text)
    with pytest.raises(StorageError, match="Delete it; it is measured again"):
        LatencyReport.load(folder)


def test_load(complete_run: Path) -> None:
    results = RunResults.load(RunFolder(complete_run))
    assert len(results.entries) == 7
    full = results.full()
    assert full is not None
    assert full.latency_source == "measured"
    assert full.acceleration == 0.0
    assert [e.name for e in results.hand_made()] == ["D2-DiT", "D3-DiT", "D4-DiT"]
    assert len(results.searched()) == 3
    for entry in (full, *results.hand_made()):
        assert entry.latency_source == "measured"
        assert entry.confirm_seeds == 2
        fresh = [r.fid for r in results.confirmations if r.number == entry.trial]
        mean = (fresh[0] + fresh[1]) / 2
        assert entry.fid_confirmed == pytest.approx(mean)
        half = 12.706205 * abs(fresh[0] - fresh[1]) / 2  # t of one degree of freedom
        assert entry.fid_ci95 == pytest.approx((mean - half, mean + half))
        assert entry.fid_ci95_over == "seeds"  # evaluation.bootstrap is 0
    for preset in results.hand_made():
        rivals = [e for e in results.searched() if e.latency_ms <= preset.latency_ms]
        found = [c for c in results.comparisons() if c.preset == preset.trial]
        # A rival is no slower; where the table agrees about one, there is a verdict.
        agreed = [e for e in rivals if e.predicted_latency_ms <= preset.predicted_latency_ms]
        assert bool(agreed) <= len(found) <= bool(rivals)
        for comparison in found:
            assert comparison.num_seeds == 2
            of = {n: results.fids_by_seed(n) for n in (preset.trial, comparison.rival)}
            steps = [of[comparison.rival][s] - fid for s, fid in of[preset.trial].items()]
            assert comparison.difference == pytest.approx(sum(steps) / 2)
            assert comparison.rival in {e.trial for e in rivals}
