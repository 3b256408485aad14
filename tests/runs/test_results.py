"""What is read from a run: latencies, confirmations, front and hypervolume."""

from dataclasses import replace
from pathlib import Path

import pytest
from driving import confirm_of, record_of, settings_of

from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.runs.results import RunResults, hypervolume_of
from schedsearch.schedules.hand_made import FULL

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 40.0),
    record_of(3, (7,) * 10, None),
    record_of(4, (6,) * 10, 2.5, 60.0),
]


def measured(latency: float, acceleration: float = 0.3) -> MeasuredLatency:
    return MeasuredLatency(
        latency_ms=latency, half_width_ms=1.0, acceleration=acceleration, repeats=3
    )


def results_of(
    records: list[TrialRecord] = RECORDS,
    report: LatencyReport | None = None,
    confirmations: list[ConfirmRecord] | None = None,
) -> RunResults:
    settings = settings_of(evaluation={"confirm_seeds": 2})
    return RunResults(settings, records, report, confirmations or [])


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
    entries = results_of(report=report).entries
    assert [e.latency.acceleration for e in entries] == [0.0, 0.5, 0.6, 0.4]
    report = LatencyReport(table={}, full_ms=100.0, measured={2: measured(44.0, 0.55)})
    found = results_of(report=report).entries[2].latency
    assert (found.ms, found.half_width_ms, found.source) == (44.0, 1.0, "measured")
    assert (found.predicted_ms, found.acceleration) == (40.0, 0.55)


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
    assert [e.latency.source for e in results.entries] == ["measured", "in place", "measured"]
    assert [e.trial for e in results.front()] == [2, 0]


def test_latencies_go_by_the_table_that_the_run_has_now() -> None:
    """Not by that of a first start with other resources."""
    table = {"c0_ms": 1.0, "a_ms": 2.0, "b_ms": 0.5}
    report = LatencyReport(table=table, full_ms=70.0, visits=(0, 0, 1, 1, 0, 0, 0, 0, 0, 1))
    records = [
        record_of(0, (9,) * 10, 2.0, 333.0),
        record_of(1, (9, 9, 9, 9, *(8,) * 6), 2.0, 9.0),
    ]
    entries = RunResults(settings_of(), records, report, []).entries
    assert [e.latency.predicted_ms for e in entries] == [1 + 3 * 2 + 27 / 2, 1 + 3 * 2 + 26 / 2]
    assert [e.latency_ms for e in entries] == [e.latency.predicted_ms for e in entries]
    bare = RunResults(settings_of(), records, replace(report, visits=()), []).entries
    assert [e.latency_ms for e in bare] == [333.0, 9.0]


def test_confirmations() -> None:
    seeds = [confirm_of(1, 1, 3.0), confirm_of(1, 2, 5.0), confirm_of(2, 1, 3.0)]
    again = [confirm_of(1, 1, 99.0, training_seed=7)]  # not of the trial's own weights
    results = results_of(confirmations=[*seeds, *again])
    entry = results.entries[1]
    assert entry.fid == 4.0  # the search's own value stays
    assert entry.fids_by_seed == {1: 3.0, 2: 5.0}
    assert entry.held_out_fid is not None
    assert entry.held_out_fid.mean == 4.0
    assert entry.held_out_fid.ci95 == pytest.approx((4.0 - 12.706205, 4.0 + 12.706205))
    assert results.entries[2].held_out_fid is None  # one value has no interval
    assert results.retrained == again


def test_the_auditor_must_have_judged_every_seed() -> None:
    seeds = [replace(confirm_of(1, seed, 3.0), audit_fid=7.0 + seed) for seed in (1, 2)]
    entry = results_of(confirmations=seeds).entries[1]
    assert entry.audit_fid is not None
    assert entry.audit_fid.mean == 8.5
    seeds[0] = replace(seeds[0], audit_fid=None)
    assert results_of(confirmations=seeds).entries[1].audit_fid is None


def test_at_how_many_held_out_seeds_a_schedule_is_on_the_front() -> None:
    fids = {  # by trial and seed; the latencies are 100, 50, 40 and 60 ms
        0: {1: 2.0, 2: 2.0},
        1: {1: 4.0, 2: 3.0},
        2: {1: 3.0, 2: 3.5},  # dominates trial 1 at the first seed
        4: {1: 2.5},  # measured once so far
    }
    seeds = [confirm_of(n, seed, fid) for n, found in fids.items() for seed, fid in found.items()]
    results = results_of(confirmations=seeds)
    assert results.seeds_on_front() == {0: (2, 2), 1: (1, 2), 2: (2, 2), 4: (1, 1)}
    assert results_of().seeds_on_front() == {}


def test_seeds_count_for_schedules_whose_latencies_compare() -> None:
    report = LatencyReport(table={}, full_ms=100.0, measured={1: measured(50.0)})
    seeds = [confirm_of(n, seed, 3.0) for n in (1, 2) for seed in (1, 2)]
    found = results_of(report=report, confirmations=seeds).seeds_on_front()
    assert found == {1: (2, 2)}  # trial 2 was never measured


def test_every_preset_gets_a_comparison() -> None:
    seeds = [confirm_of(n, s, 5.0 - n + s / 10) for n in (1, 2) for s in (1, 2)]
    (found,) = results_of(confirmations=seeds).comparisons()
    assert (found.preset.trial, found.searched and found.searched.trial) == (1, 2)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(-1.0)
    training = [
        confirm_of(n, 10 * t + s, 3.0 + n + t / 10 + s, t)
        for n in (1, 2)
        for t in (5, 6)
        for s in (1, 2)
    ]
    (found,) = results_of(confirmations=[*seeds, *training]).comparisons()
    assert found.difference is not None
    assert (found.difference.mean, found.num_training_seeds) == (pytest.approx(1.0), 2)
    (alone,) = results_of(RECORDS[:2]).comparisons()
    assert alone.searched is None


def test_hypervolumes() -> None:
    results = results_of()
    assert results.hypervolume() == hypervolume_of(RECORDS)
    assert results.hypervolume(results.entries[:1]) == pytest.approx(0.02 / 3.03)
    # Full depth and the preset at (2, 0.5) in units of full depth, in the box up to (3, 1.01).
    by_hand = (0.01 * 2 + 0.5 * 1) / 3.03
    assert results.hand_made_hypervolume() == pytest.approx(by_hand)
    assert results_of([RECORDS[2]]).hypervolume() is None


def test_load(complete_run: Path) -> None:
    results = RunResults.load(RunFolder(complete_run))
    assert len(results.entries) == 7
    full = results.full()
    assert full is not None
    assert full.latency.acceleration == 0.0
    assert [e.name for e in results.hand_made()] == ["D2-DiT", "D3-DiT", "D4-DiT"]
    assert len(results.searched()) == 3
    for entry in (full, *results.hand_made()):
        assert entry.latency.source == "measured"
        assert len(entry.confirmed) == 2
    for found in results.comparisons():
        if found.searched is None:
            continue
        assert found.searched.latency.predicted_ms <= found.preset.latency.predicted_ms
        assert found.difference is not None  # both were confirmed
        theirs = found.preset.fids_by_seed
        steps = [fid - theirs[seed] for seed, fid in found.searched.fids_by_seed.items()]
        assert found.difference.mean == pytest.approx(sum(steps) / 2)
