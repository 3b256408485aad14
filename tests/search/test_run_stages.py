"""What the stages of a run share."""

from pathlib import Path

from driving import RunView
from rich.console import Console

from schedsearch.config import read_settings
from schedsearch.search.opening import opened_run
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.run_stages import RunStages
from schedsearch.search.volumes import hypervolume_of


def test_what_a_further_search_keeps_back_goes_by_the_table(run_copy: Path) -> None:
    """Latencies of its first end would leave out the contenders that it has found since."""
    budget = ["search.n_trials=9", "search.budget.wall_clock=1e6"]
    settings = read_settings(run_copy / "space.yaml", budget)
    folder, view = RunFolder(run_copy), RunView(Console(quiet=True), hypervolume_of)
    with opened_run(settings, folder, view) as (ready, meter):
        run = RunStages(ready, folder, meter, view)
        run.study.prepare()
        assert any(e.latency_source == "measured" for e in run.results().entries)
        by_table = run.results(by_table=True)
        assert all(e.latency_source == "predicted" for e in by_table.entries)
        assert [e.trial for e in by_table.entries] == [e.trial for e in run.results().entries]
        for preset in by_table.hand_made():
            size = settings.evaluation.runoff_size
            likely = by_table.likely_contenders_for(preset)
            assert by_table.contenders_for(preset) == likely[:size]
