"""The certificate of a run, on schedules with a known additive FID."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from driving import record_of, settings_of

from schedsearch.exceptions import StorageError
from schedsearch.hand_made import FULL
from schedsearch.search import certifying
from schedsearch.search.certifying import MIN_TRIALS, certify_run, load_sentence
from schedsearch.search.results import LatencyReport, MeasuredLatency, RunResults
from schedsearch.search.run_folder import RunFolder

VISITS = (2,) * 10


def fid_of(depths):
    return math.exp(sum((10 - depth) ** 2 * (10 - i) for i, depth in enumerate(depths)) / 900)


def run_of(schedules):
    records = [
        record_of(n, depths, fid_of(depths), 2.0 * sum(depths), label=None if n else FULL)
        for n, depths in enumerate(schedules)
    ]
    return RunResults(settings_of(), records, None, [])


def predict_ms(schedule):
    return 2.0 * sum(schedule.depths)


SCHEDULES = [(10,) * (10 - n) + (10 - n,) * n for n in range(9)] + [(6,) * 10, (5,) * 5 + (4,) * 5]


def test_every_schedule_of_the_front_is_certified(tmp_path):
    results = run_of(SCHEDULES)
    certificate = certify_run(results, VISITS, None, predict_ms)
    assert certificate is not None
    assert [c.schedule.depths for c in certificate.schedules] == [
        entry.depths for entry in results.front()
    ]
    assert f"all {len(SCHEDULES)} schedules" in certificate.sentence
    fids, latencies = zip(*certificate.bound, strict=True)
    assert list(latencies) == sorted(latencies)
    assert list(fids) == sorted(fids, reverse=True)
    assert latencies[-1] == pytest.approx(200.0)  # full depth's

    slower = LatencyReport(
        table={},
        full_ms=200.0,
        measured={
            n: MeasuredLatency(latency_ms=2.4 * sum(d), spread_ms=1.0, acceleration=0.1, repeats=3)
            for n, d in enumerate(SCHEDULES)
        },
    )
    later = RunResults(results.settings, results.records, slower, [])
    moved = certify_run(later, VISITS, None, predict_ms)
    assert moved is not None
    assert moved.bound[-1][1] == pytest.approx(1.2 * latencies[-1])  # beside the measured front

    folder = RunFolder(tmp_path)
    assert load_sentence(folder) is None
    certificate.save(folder)
    assert load_sentence(folder) == certificate.sentence
    kept = json.loads(folder.certificate_file.read_text())
    assert kept["schedules"][0]["schedule"] == list(results.front()[0].depths)
    folder.certificate_file.write_text("{")
    with pytest.raises(StorageError, match="Delete it"):
        load_sentence(folder)


def test_the_gap_is_told_as_a_share_of_the_measured_fid(monkeypatch):
    """1.2 against 0.5 is 58 % lower, not 140 %."""
    results = run_of(SCHEDULES)
    gap = math.log(1.2 / 0.5)
    real = certifying.certify
    monkeypatch.setattr(
        certifying, "certify", lambda *a: [replace(c, gap=gap, gap_sd=0.1) for c in real(*a)]
    )
    certificate = certify_run(results, VISITS, None, predict_ms)
    assert certificate is not None
    assert "at most 58.3% ± 4.2% lower FID" in certificate.sentence


def test_a_few_trials_certify_nothing():
    assert certify_run(run_of(SCHEDULES[: MIN_TRIALS - 1]), VISITS, None, predict_ms) is None


def test_a_schedule_outside_the_space_is_left_out():
    results = run_of(SCHEDULES)
    stranger = replace(results.records[-1], number=99, depths=tuple(range(1, 11)))
    more = RunResults(results.settings, [*results.records, stranger], None, [])
    certificate = certify_run(more, VISITS, None, predict_ms)
    assert certificate is not None
    assert f"all {len(SCHEDULES)} schedules" in certificate.sentence
