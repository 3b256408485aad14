"""Pictures of a run."""

from dataclasses import replace
from pathlib import Path

import pytest
from driving import entry_of, record_of, settings_of
from matplotlib.image import imread

from schedsearch.hand_made import FULL
from schedsearch.report.plots import _saved, plot_front
from schedsearch.search.results import RunResults
from schedsearch.search.run_folder import RunFolder


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
    assert (tmp_path / "front.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("acceleration", "shown"), [(0.0, "0%"), (-0.001, "0%"), (0.314, "-31%"), (-0.05, "+5%")]
)
def test_time_saved_is_shown_as_a_change(acceleration: float, shown: str) -> None:
    assert _saved(replace(entry_of(1, 2.0, 10.0), acceleration=acceleration)) == shown
