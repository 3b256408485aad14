"""Schedules of a run, fine-tuned anew: what is measured once only, and from which weights."""

from __future__ import annotations

import json

from benchmarks import retraining
from benchmarks.retraining import Job, measure_all


def test_a_row_that_is_known_is_not_measured_again(tmp_path, monkeypatch):
    job = Job(
        depths=(9,) * 10, num_steps=100, training_seed=1, evaluation_seeds=(1, 2), num_samples=8
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"job": job.key, "fids": [1.0, 2.0]}) + "\n")
    monkeypatch.setattr(retraining, "measure", None)
    assert measure_all([job, job], tmp_path, rows, 1)[job.key]["fids"] == [1.0, 2.0]
