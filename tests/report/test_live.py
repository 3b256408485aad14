"""What a run shows while it goes on."""

import io

import pytest
from driving import record_of
from rich.console import Console

from schedsearch.report.live import RunView, time_left
from schedsearch.runs.results import hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import TrialJob


def job_of(number: int, label: str | None = None) -> TrialJob:
    return TrialJob(
        number=number,
        schedule=ExitSchedule((9,) * 10),
        label=label,
        settings="",
        run_dir="",
        predicted_latency_ms=1.0,
        measure_latency=False,
    )


def view_of(*, terminal: bool = False, quiet: bool = False) -> tuple[RunView, io.StringIO]:
    told = io.StringIO()
    console = Console(file=told, width=150, height=50, force_terminal=terminal)
    return RunView(console, hypervolume_of, quiet=quiet), told


def tell_all(view: RunView) -> None:
    with view:
        view.stage("searching", total=3)
        view.resumed([record_of(0, (10,) * 10, 2.0, 100.0, label="full")])
        view.started(job_of(1, "D2-DiT"))
        view.started(job_of(2))
        view.interrupted(job_of(1, "D2-DiT"), "the worker died")
        view.finished(record_of(2, (9,) * 10, 3.0, 50.0))
        view.started(job_of(3, "D2-DiT"))
        view.finished(record_of(3, (8,) * 10, None))
        view.warning("watch out [/b]")
        view.stage("confirming", total=2)
        view.advanced()
        view.message("a line")


def test_plain_lines_where_there_is_no_terminal() -> None:
    view, told = view_of()
    tell_all(view)
    lines = told.getvalue().splitlines()
    assert lines[:5] == [
        "searching (3)",
        "resuming with 1 finished trials",
        "trial 1 started: D2-DiT [9 9 9 9 9 9 9 9 9 9]",
        "trial 2 started: searched [9 9 9 9 9 9 9 9 9 9]",
        "trial 1 interrupted: the worker died; its schedule runs again",
    ]
    assert lines[5].startswith("trial 2 done (2/3): FID 3.000, 50.0 ms, 2 s")
    assert lines[7:] == [
        "trial 3 failed in fine-tune: it broke (trials/0003/log.txt)",
        "warning: watch out [/b]",
        "confirming (2)",
        "a line",
    ]


def test_quiet_leaves_failures_and_warnings() -> None:
    view, told = view_of(quiet=True)
    tell_all(view)
    assert told.getvalue().splitlines() == [
        "trial 3 failed in fine-tune: it broke (trials/0003/log.txt)",
        "warning: watch out [/b]",
    ]


def test_a_terminal_gets_the_front_and_what_runs() -> None:
    view, told = view_of(terminal=True)
    with view:
        view.stage("searching", total=5)
        view.resumed([])
        for number in range(2):
            view.started(job_of(number))
        view.finished(record_of(0, (10,) * 10, 2.0, 100.0, label="full"))
        view.finished(record_of(5, (7,) * 10, 3.0, 50.0))
        view.finished(record_of(6, (6,) * 10, 4.0, 60.0))
        view.finished(record_of(7, (5,) * 10, None))
        view.interrupted(job_of(9), "killed")
    shown = told.getvalue()
    for text in (
        "3/5",
        "running 1",
        "failed 1",
        "interrupted 1",
        "hypervolume 0.2541",
        "best pairs so far: 2 on the front",
        "FID (digits CNN, n=64)",
        "trial 1",
    ):
        assert text in shown
    assert view._live is None


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_ends_the_view(terminal: bool) -> None:
    view, _ = view_of(terminal=terminal)
    with pytest.raises(RuntimeError), view:  # noqa: PT012 - the block is the test
        view.stage("searching")
        raise RuntimeError
    assert view._live is None


def left(done: int, elapsed: float, expected: float | None) -> float | None:
    """Of 16 trials of 10 s on two workers, which take 80 s."""
    return time_left(elapsed=elapsed, done=done, running=2, wanted=16, expected=expected)


def test_the_time_left_is_known_before_the_first_trial_ends() -> None:
    assert left(0, 3.0, 80.0) == 77.0
    assert left(0, 3.0, None) is None


@pytest.mark.parametrize("expected", [None, 50.0, 80.0, 130.0])
def test_the_time_left_after_the_first_trial_is_within_a_factor_of_two(
    expected: float | None,
) -> None:
    found = left(1, 10.0, expected)
    assert found is not None
    assert 0.5 * 70.0 < found < 2.0 * 70.0


def test_later_the_jobs_themselves_count() -> None:
    found = left(10, 50.0, 800.0)  # an estimate ten times too high
    assert found is not None
    assert 25.0 < found < 50.0
