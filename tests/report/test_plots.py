"""The picture of a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import record_of, settings_of
from made_up_runs import RECORDS, confirmed, results_of
from matplotlib.figure import Figure
from matplotlib.image import imread

from schedsearch.planning.error_table import ErrorTable
from schedsearch.report.plots import MIN_TRIALS, optima_of, plot_front
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL

HELD_OUT = "mean over held-out seeds, 95 %"
DASHED = "optimal by the surrogate"
Draw = Callable[..., tuple[Any, Any]]


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws a run; returns the axes of the points and of the schedules, and writes nothing."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path, **_: Any) -> None:
        figures.append(figure)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", keep)

    def drawn(results: RunResults, table: ErrorTable | None = None) -> tuple[Any, Any]:
        plot_front(results, tmp_path / "front.png", table)
        points, schedules, *_ = figures[-1].axes
        return points, schedules

    return drawn


def legend_of(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.get_legend().get_texts()}


def marks_of(axes: Any) -> set[tuple[float, float]]:
    """(latency, FID) of the filled marks."""
    lines = [line for line in axes.lines if line.get_alpha() == 0.8]
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines}


def bars_of(axes: Any) -> list[tuple[float, float, float]]:
    """(latency, lowest, highest FID) of the intervals."""
    segments = [container.lines[2][0].get_segments()[0] for container in axes.containers]
    return [(x, low, high) for (x, low), (_, high) in segments]


def test_the_file_of_a_run(complete_run: Path, tmp_path: Path) -> None:
    plot_front(RunResults.load(RunFolder(complete_run)), tmp_path / "front.png")
    image = imread(tmp_path / "front.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 600
    assert image[..., :3].std() > 0.05  # not blank
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]
    assert imread(complete_run / "front.png").shape == image.shape


def test_filled_marks_stand_at_the_fid_of_the_search(draw: Draw) -> None:
    axes, _ = draw(results_of())
    assert marks_of(axes) == {(100.0, 2.0), (50.0, 4.0), (40.0, 3.0), (30.0, 2.5), (60.0, 9.0)}
    assert {text.get_text() for text in axes.texts} == {FULL, "D2-DiT", "D3-DiT"}
    assert legend_of(axes) == {"Pareto front", "searched", "hand-made", "full depth"}
    assert axes.get_xlabel() == "latency, ms per batch of 8"
    assert axes.get_ylabel() == "FID (digits CNN, n=64)"
    assert bars_of(axes) == []


def test_the_schedules_say_the_edges_of_their_intervals(draw: Draw) -> None:
    _, equal = draw(results_of())
    assert equal.get_xlabel() == "interval of diffusion time, data → noise"
    _, shifted = draw(results_of(space={"edges": {"shift": 3.0}}))
    assert "edges 0 250 428.57 562.5 " in shifted.get_xlabel()


def test_held_out_seeds_add_an_interval(draw: Draw) -> None:
    results = results_of(confirmed({1: 4.2, 2: 3.1}))
    axes, _ = draw(results)
    assert HELD_OUT in legend_of(axes)
    expected = [
        (entry.latency_ms, *entry.held_out_fid.ci95)
        for entry in results.entries
        if entry.held_out_fid is not None
    ]
    assert len(expected) == 2
    assert bars_of(axes) == [pytest.approx(bar) for bar in expected]
    assert len(marks_of(axes)) == 5  # the search's own FIDs stay


def test_held_out_seeds_with_more_images_are_no_marks_on_this_axis(draw: Draw) -> None:
    records = [replace(record, num_samples=128) for record in confirmed({1: 4.2, 2: 3.1})]
    axes, _ = draw(results_of(records, evaluation={"confirm_samples": 128}))
    assert HELD_OUT not in legend_of(axes)
    assert bars_of(axes) == []


def test_latencies_that_were_not_measured_follow_the_machine(draw: Draw) -> None:
    results = results_of()
    assert results.latency is not None
    measured = {
        n: replace(found, latency_ms=1.2 * found.latency_ms)
        for n, found in results.latency.measured.items()
        if n != 4
    }
    slower = RunResults(results.settings, RECORDS, replace(results.latency, measured=measured), [])
    axes, _ = draw(slower)
    (latency,) = (ms for ms, fid in marks_of(axes) if fid == 9.0)
    assert latency == pytest.approx(72.0)


def test_the_front_is_a_heat_map_with_what_it_saves(draw: Draw) -> None:
    _, axes = draw(results_of())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["D3-DiT, -70%", "full, 0%"]
    assert axes.images[0].get_array().tolist() == [[7] * 10, [10] * 10]
    assert [text.get_text() for text in axes.texts] == ["7"] * 10 + ["10"] * 10


def test_one_schedule_is_enough(tmp_path: Path) -> None:
    alone = RunResults(settings_of(), [record_of(0, (10,) * 10, label=FULL)], None, [])
    plot_front(alone, tmp_path / "front.png")
    assert imread(tmp_path / "front.png")[..., :3].std() > 0.05  # not blank


# ---- the dashed line --------------------------------------------------------------------------

VISITS = (0, 0, 0, 1, 0, 0, 1, 0, 0, 1)
TABLE = ErrorTable(
    depths=tuple(range(2, 11)),
    losses=tuple(tuple(0.2 + 0.01 * (10 - d) ** 2 for d in range(2, 11)) for _ in range(10)),
    standard_errors=((0.001,) * 9,) * 10,
    exits="pretrained",
    num_steps=0,
    num_images=4,
    seed=0,
    seconds=1.0,
)


def run_of(num_trials: int) -> RunResults:
    """Flat and stepped schedules whose FID falls with their blocks."""
    records = []
    for number in range(num_trials):
        depths = (10,) * (10 - number) + (9 - number % 3,) * number
        blocks = sum(v * d for v, d in zip(VISITS, depths, strict=True))
        records.append(record_of(number, depths, 2.0 + 0.3 * (30 - blocks), 1.0 + blocks))
    latency = LatencyReport(
        table={"c0_ms": 1.0, "a_ms": 0.0, "b_ms": 1.0}, full_ms=31.0, visits=VISITS
    )
    return RunResults(settings_of(), records, latency, [])


def test_the_surrogate_draws_a_dashed_line(draw: Draw) -> None:
    results = run_of(MIN_TRIALS)
    axes, _ = draw(results, TABLE)
    assert DASHED in legend_of(axes)
    (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
    latencies, fids = line.get_xdata(), line.get_ydata()
    assert list(latencies) == sorted(latencies)
    assert max(fids) <= max(entry.fid for entry in results.entries)
    assert set(zip(fids, latencies, strict=True)) <= set(optima_of(results, TABLE))


def test_too_few_trials_or_no_latency_table_draw_none(draw: Draw) -> None:
    few, many = run_of(MIN_TRIALS - 1), run_of(MIN_TRIALS)
    assert optima_of(few, TABLE) == []
    assert optima_of(RunResults(many.settings, many.records, None, []), TABLE) == []
    axes, _ = draw(few, TABLE)
    assert DASHED not in legend_of(axes)


def test_optima_follow_the_machine_as_the_marks_do() -> None:
    results = run_of(MIN_TRIALS)
    assert results.latency is not None
    plain = optima_of(results, TABLE)
    assert plain
    slower = results_of(records=results.records)
    assert slower.latency is not None
    report = replace(
        results.latency,
        measured={
            n: replace(found, latency_ms=1.5 * found.latency_ms)
            for n, found in slower.latency.measured.items()
        },
        measured_after=len(results.records),
    )
    found = optima_of(RunResults(results.settings, results.records, report, []), TABLE)
    assert [ms for _, ms in found] == pytest.approx([1.5 * ms for _, ms in plain])


@pytest.mark.parametrize(("worst", "scale"), [(8.0, "linear"), (8.1, "log")])
def test_fids_far_apart_get_a_logarithmic_axis(draw: Draw, worst: float, scale: str) -> None:
    axes, _ = draw(results_of(records=[*RECORDS[:4], record_of(4, (6,) * 10, worst, 60.0)]))
    assert axes.get_yscale() == scale
