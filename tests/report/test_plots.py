"""Pictures of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving import confirm_of, entry_of, record_of, settings_of
from matplotlib.figure import Figure
from matplotlib.image import imread

from schedsearch.report.findings import findings_of
from schedsearch.report.plots import _draw_schedules, _points, _saved, plot_front
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL


def test_the_front_of_a_run(complete_run: Path, tmp_path: Path) -> None:
    plot_front(RunResults.load(RunFolder(complete_run)), tmp_path / "front.png")
    image = imread(tmp_path / "front.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 600
    assert image[..., :3].std() > 0.05  # not blank
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]
    kept = imread(complete_run / "front.png")
    assert kept.shape == image.shape


def test_one_schedule_is_enough(tmp_path: Path) -> None:
    records = [record_of(0, (10,) * 10, label=FULL)]
    plot_front(RunResults(settings_of(), records, None, []), tmp_path / "front.png")
    one = imread(tmp_path / "front.png")
    records.append(record_of(1, (8,) * 10, 3.0, 50.0))
    plot_front(RunResults(settings_of(), records, None, []), tmp_path / "two.png")
    two = imread(tmp_path / "two.png")
    assert one.shape == two.shape
    assert one[..., :3].std() > 0.05  # not blank
    assert not np.array_equal(one, two)


def test_confirmed_schedules_get_their_interval_and_the_bound_its_line(tmp_path: Path) -> None:
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (8,) * 10, 3.0, 50.0),
        record_of(2, (7,) * 10, 3.5, 40.0),
    ]
    fresh = [confirm_of(n, seed, 2.5 + n + seed / 10) for n in (0, 1) for seed in (1, 2)]
    settings = settings_of(evaluation={"confirm_seeds": 2})
    alike = findings_of(RunResults(settings, records, None, fresh))
    name, points = _points(alike)
    assert name == "FID (digits CNN, n=64)"
    assert [(p.schedule.trial, p.half_width is None) for p in points] == [
        (1, False),
        (0, False),
        (2, True),
    ]
    more = [replace(record, num_samples=128) for record in fresh]
    other = RunResults(settings, records, None, more)
    name, points = _points(findings_of(other))
    assert name == "FID (digits CNN, n=128)"  # those of the search do not compare
    assert [p.schedule.trial for p in points] == [1, 0]
    line = [(3.0, 40.0), (2.0, 60.0), (99.0, 30.0)]
    measured_alike = RunResults(settings, records, None, fresh)
    plot_front(measured_alike, tmp_path / "plain.png")
    plot_front(measured_alike, tmp_path / "bound.png", bound=line)
    plot_front(other, tmp_path / "other.png", bound=line)  # the bound is of the search's FID
    plain, bound, unlike = (
        imread(tmp_path / f"{name}.png") for name in ("plain", "bound", "other")
    )
    green = [
        ((i[..., 1] > i[..., 0] + 0.3) & (i[..., 1] > i[..., 2] + 0.3))[:, : i.shape[1] // 2].sum()
        for i in (plain, bound, unlike)
    ]
    assert green[0] == green[2] == 0
    assert green[1] > 20


def test_what_was_not_confirmed_stands_where_fresh_seeds_should_show_it() -> None:
    records = [record_of(0, (10,) * 10, 2.0, 100.0, label=FULL)]
    labels = {1: "D2-DiT", 2: "D3-DiT"}
    records += [
        record_of(n, (10 - n,) * 10, 2.0 + n / 2, 100.0 - 10 * n, label=labels.get(n))
        for n in range(1, 7)
    ]
    fresh = [confirm_of(n, seed, 1.5 + n / 2 + seed / 100) for n in range(6) for seed in (1, 2, 3)]
    settings = settings_of(evaluation={"confirm_seeds": 3})
    _, points = _points(findings_of(RunResults(settings, records, None, fresh)))
    pale = [p for p in points if p.half_width is None]
    assert [p.schedule.trial for p in pale] == [6]
    assert pale[0].schedule.fid == 5.0
    assert pale[0].fid == pytest.approx(5.0 - 0.48, abs=0.02)
    more = [replace(record, num_samples=128) for record in fresh]  # learned all the same
    name, points = _points(findings_of(RunResults(settings, records, None, more)))
    assert name == "FID (digits CNN, n=128)"
    assert [p.fid for p in points if p.half_width is None] == [pale[0].fid]


@pytest.mark.parametrize(
    ("acceleration", "shown"), [(0.0, "0%"), (-0.001, "0%"), (0.314, "-31%"), (-0.05, "+5%")]
)
def test_time_saved_is_shown_as_a_change(acceleration: float, shown: str) -> None:
    assert _saved(replace(entry_of(1, 2.0, 10.0), acceleration=acceleration)) == shown


def test_schedules_of_the_front_that_were_not_confirmed_are_pale() -> None:
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (8,) * 10, 3.0, 50.0),
        record_of(2, (7,) * 10, 3.5, 40.0),
    ]
    fresh = [confirm_of(n, seed, 2.5 + n) for n in (0, 1) for seed in (1, 2)]
    settings = settings_of(evaluation={"confirm_seeds": 2})
    seen = {}
    for name, kept in (("some", fresh), ("none", [])):
        axes = Figure().subplots()
        _draw_schedules(axes, RunResults(settings, records, None, kept))
        labels = axes.get_yticklabels()
        seen[name] = [
            label.get_text().split(",")[0] for label in labels if label.get_alpha() == 0.45
        ]
        assert ("not confirmed" in axes.get_title()) == (name == "some")
    assert seen == {"some": ["trial 2"], "none": []}
