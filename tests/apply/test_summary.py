"""What a summary says and prints."""

import dataclasses
from types import SimpleNamespace

import pytest
from model_cases import SCHEDULE, named

import schedsearch
from schedsearch.exceptions import ConfigError


def test_a_summary_counts_calls_and_blocks() -> None:
    case = named("DiT")
    model = case.make()
    case.enable(model)
    assert "no call of the model so far" in str(schedsearch.summary(model))
    for clock in (999.0, 999.0, 450.0, 5.0):
        case.at(model, clock)
    summary = schedsearch.summary(model)
    assert (summary.model, summary.family) == (
        "DiTTransformer2DModel",
        "diffusers:DiTTransformer2DModel",
    )
    assert dict(summary.calls) == {6: 1, 4: 1, 1: 2}
    assert (summary.num_calls, summary.blocks_run, summary.blocks_full) == (4, 12, 24)
    assert (summary.last_clock, summary.notes) == (5.0, ())
    assert str(summary).splitlines() == [
        "DiTTransformer2DModel (diffusers:DiTTransformer2DModel), 6 blocks",
        "blocks, data -> noise: 6 6 5 5 4 4 3 3 2 1",
        "blocks  calls",
        "     6      1",
        "     4      1",
        "     1      2",
        "blocks run: 12 of 24 (50.0% saved)",
        "clock times of the last run: 999 999 450 5",
    ]
    assert summary.last_run == ((999.0, 1), (999.0, 1), (450.0, 4), (5.0, 6))


def test_a_run_begins_where_the_time_rises() -> None:
    case = named("DiT")
    model = case.make()
    case.enable(model)
    for clock in (900.0, 300.0, 800.0, 200.0, 200.0):
        case.at(model, clock)
    summary = schedsearch.summary(model)
    assert [clock for clock, _ in summary.last_run] == [800.0, 200.0, 200.0]
    assert summary.num_calls == 5


def test_the_middle_of_a_long_run_is_left_out() -> None:
    case = named("DiT")
    model = case.make()
    case.enable(model)
    for clock in range(999, 974, -1):
        case.at(model, float(clock))
    shown = str(schedsearch.summary(model))
    assert shown.endswith("993 992 ... 982 981 980 979 978 977 976 975")
    assert len(schedsearch.summary(model).last_run) == 25


def test_a_summary_suspects_a_model_that_is_fed_sigma() -> None:
    case = named("official DiT")
    model = case.make()
    schedsearch.enable(model, SCHEDULE)
    for clock in (0.97, 0.03):
        case.at(model, clock)
    assert "[0.03, 0.97], as if the model were fed sigma" in str(schedsearch.summary(model))


def test_edges_are_shown_where_a_schedule_has_some() -> None:
    model = named("SD3").make()
    schedsearch.enable(model, SCHEDULE)
    schedule = SimpleNamespace(edges=(0.0, 250.0, 1000.0))
    shown = str(dataclasses.replace(schedsearch.summary(model), schedule=schedule))
    assert "edges of the intervals: 0 250 1000" in shown


@pytest.mark.parametrize("wrong", [None, 3, "model"])
def test_a_summary_needs_a_model(wrong: object) -> None:
    with pytest.raises(ConfigError, match="a model or to a pipeline"):
        schedsearch.summary(wrong)
