"""Pipelines and schedulers: every call runs the blocks of its time."""

from pathlib import Path

import pytest
import torch

from benchmarks import pipelines
from benchmarks.pipelines import Row, check, page_of
from benchmarks.tiny_pipelines import PIPELINES, TinyPipeline

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [(pipeline, name) for pipeline in PIPELINES.values() for name in pipeline.schedulers]
QUICK = {
    ("DiT", "Heun"),
    ("PixArt-alpha", "DPM++ 2M Karras"),
    ("SD3", "flow Euler, dynamic"),
    ("FLUX", "UniPC flow"),
    ("FLUX", "flow Heun"),
    ("Sana", "DPM++ 2M flow"),
}
REFUSED = {("FLUX", "flow Heun"), ("FLUX", "DPM++ 2M flow"), ("Sana", "flow Euler, dynamic")}


def test_there_are_43_pairs() -> None:
    assert len(PAIRS) == 43


@pytest.mark.parametrize(
    ("pipeline", "scheduler"),
    [
        pytest.param(
            pipeline,
            name,
            id=f"{pipeline.name}, {name}",
            marks=[] if (pipeline.name, name) in QUICK else pytest.mark.slow,
        )
        for pipeline, name in PAIRS
    ],
)
def test_a_pipeline_follows_the_schedule(pipeline: TinyPipeline, scheduler: str) -> None:
    row = check(pipeline, scheduler, num_steps=10)
    assert row.passed
    assert bool(row.refused) == ((pipeline.name, scheduler) in REFUSED)
    assert row.refused or row.calls in (10, 19)


def test_the_check_sees_a_wrong_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "truncated", lambda model, lists, depth: model)
    row = check(PIPELINES["DiT"], "DDIM", num_steps=4)
    assert not row.is_equal
    assert row.is_reversible


def test_the_page_has_a_line_per_pair() -> None:
    row = Row(pipeline="DiT", scheduler="DDIM", calls=10, depths="6: 10", is_equal=True)
    page = page_of([row], {"FLUX": 19.4}, 10)
    assert "0 of 1 pairs" in page
    assert "| DiT | DDIM | 10 | 6: 10 | yes | no |" in page
    assert f"torch {torch.__version__.partition('+')[0]}" in page
    written = (ROOT / "benchmarks" / "results" / "pipelines.md").read_text(encoding="utf-8")
    assert written.count(" | yes | yes |") == len(PAIRS) - len(REFUSED)
    for pipeline, name in PAIRS:
        assert f"| {pipeline.name} | {name} |" in written
