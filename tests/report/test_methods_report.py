"""Tables and picture of a comparison."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import record_of
from made_up_methods import RATIOS, ROWS, methods_of, rival_of
from PIL import Image
from rich.console import Console

from schedsearch.report.method_plot import plot_methods
from schedsearch.report.method_tables import (
    closing_lines,
    front_lines,
    methods_markdown,
    methods_table,
)
from schedsearch.runs.methods.joined import JoinedMethods
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.runs.methods.results import MethodResults

FAILED = RivalRecord(
    name="tome-0.4",
    entry="tome",
    kind="tome",
    training_seed=None,
    config_sha256="x",
    failed="ConfigError: an odd grid",
)


def shown(rows: list[RivalRecord] = ROWS) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(methods_table(methods_of(rows)))
    return out.getvalue()


def test_the_table_fits_100_columns_and_says_what_it_shows() -> None:
    text = shown()
    assert max(map(len, text.splitlines())) <= 100
    line = next(row for row in text.splitlines() if row.strip().startswith("steps-12"))
    assert line.split() == [
        "steps-12", "0.60", "60%", "0.60", "3.100", "±", "0.248", "+0.900", "±", "0.000", "0.310",
        "-",
    ]  # fmt: skip
    assert "FID (digits CNN, n=64), mean over 3 seeds" in text
    assert "auditor: FID by digits MLP" in text
    assert "15.0 s" in next(row for row in text.splitlines() if "deediff-0.7 " in row)


def test_another_number_of_images_is_said_and_not_drawn_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(row, confirm_samples=500) for row in ROWS]
    methods = methods_of(rows, trials=[record_of(1, (5,) * 10, 2.25, 50.0)])
    out = io.StringIO()
    Console(file=out, width=100).print(methods_table(methods))
    assert "FID (digits CNN, n=500), mean over 3 seeds" in out.getvalue()
    assert "2.250 (n=64)" in next(x for x in out.getvalue().splitlines() if "trial 1" in x)
    drawn = {}

    def errorbar(_: object, x: list[float], y: list[float], **options: Any) -> None:
        drawn[options["label"]] = (y, options["yerr"])

    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", errorbar)
    plot_methods(methods, tmp_path / "methods.png")
    assert drawn["full"] == ([2.0], [0.0])  # the search's seed, as the trial's
    plot_methods(methods_of(rows), tmp_path / "methods.png")
    assert drawn["full"][0] == [pytest.approx(2.2)]
    assert drawn["full"][1][0] > 0


def test_a_failed_row_is_shown() -> None:
    (row,) = (line for line in shown([*ROWS, FAILED]).splitlines() if "tome-0.4" in line)
    assert "failed" in row
    lines = closing_lines(methods_of([*ROWS, FAILED]), "runs/x")
    assert "tome-0.4 failed: ConfigError: an odd grid" in lines


def test_rows_that_do_not_count_are_named_in_one_line() -> None:
    methods = methods_of()
    without = MethodResults(methods.run, ROWS, {}, ["flat-3", "calm-0.7", "calm-0.7"]).only([])
    (line,) = (line for line in closing_lines(without, "runs/x") if "Left out" in line)
    assert line.endswith("other settings than the space has now: flat-3, calm-0.7.")
    assert not [line for line in closing_lines(methods, "runs/x") if "Left out" in line]


def test_sentences_name_twins_notes_and_the_next_command() -> None:
    lines = closing_lines(methods_of(), "runs/x")
    (front,) = front_lines(methods_of())
    assert front == "On the front beside full depth: steps-12, deediff-0.7-twin."
    assert "deediff-0.7 against its static twin: FID 0; the step explains 98%" in lines[0]
    assert "deediff-0.7: the target is not reached." in lines
    assert lines[-1].startswith("next: schedsearch export runs/x --method NAME")
    assert not any("decide together" in line for line in lines)


def test_a_sentence_names_the_batch_that_decides_together() -> None:
    lines = closing_lines(methods_of([replace(ROWS[2], decision_batch=75)]), "runs/x")
    assert "Batches of 75 decide together in deediff-0.7." in lines


def test_several_runs_share_one_table_and_one_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row names its run, and each difference is to full depth of its own run."""
    better = rival_of("plan-0.5", [2.1, 2.2, 2.4, 2.3], kind="plan", share=0.5)
    other = methods_of([ROWS[0], better, FAILED], {"full": 1.0, "plan-0.5": 0.5})
    joined = JoinedMethods({"runs/a": methods_of(), "runs/b": other})
    out = io.StringIO()
    Console(file=out, width=100).print(methods_table(joined))
    rows = [line.split()[:2] for line in out.getvalue().splitlines() if "runs/" in line][1:]
    assert rows == [
        ["runs/b", "plan-0.5"], ["runs/a", "steps-12"], ["runs/a", "deediff-0.7-twin"],
        ["runs/a", "deediff-0.7"], ["runs/a", "full"], ["runs/b", "full"], ["runs/b", "tome-0.4"],
    ]  # fmt: skip
    assert front_lines(joined) == ["On the front beside full depth: plan-0.5 of runs/b."]
    header, _, first, *_, failed = methods_markdown(joined).splitlines()
    assert header.startswith("| run | method |")
    assert first.startswith("| runs/b | plan-0.5 |")
    assert header.count("|") == first.count("|") == failed.count("|")
    labels = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.errorbar", lambda *_, **options: labels.append(options["label"])
    )
    plot_methods(joined, tmp_path / "methods.png")
    assert labels == ["deediff of runs/a", None, "full", "plan of runs/b", "steps of runs/a"]


def test_markdown_has_all_cost_terms() -> None:
    text = methods_markdown(methods_of())
    header, _, *rows = text.splitlines()
    for title in (
        "time / full",
        "MACs / full",
        "extra parameters",
        "held, kB per image",
        "near copies",
    ):
        assert title in header
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        e.name for e in methods_of().all()
    ]
    assert {row.count("|") for row in (header, *rows)} == {15}
    assert "| 0.500 | 2.00 | 5.0% |" in rows[0]
    blind = [replace(q, nn_distance=None, near_copies=None) for q in ROWS[1].qualities]
    unseen = [ROWS[0], replace(ROWS[1], qualities=tuple(blind))]
    assert "| 0.500 | - | - |" in methods_markdown(methods_of(unseen))


def test_a_method_that_fid_flatters_is_named() -> None:
    copying = [replace(q, near_copies=0.09) for q in ROWS[1].qualities]
    rows = [ROWS[0], replace(ROWS[1], qualities=tuple(copying)), *ROWS[2:]]
    lines = closing_lines(methods_of(rows), "runs/x")
    assert "FID may flatter steps-12 (near copies 9.0%, full depth 5.0%)." in lines
    assert not [line for line in closing_lines(methods_of(), "runs/x") if "flatter" in line]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    plot_methods(methods_of(), tmp_path / "methods.png")
    with Image.open(tmp_path / "methods.png") as picture:
        assert picture.size[0] > 1000
        assert len(set(picture.convert("RGB").resize((80, 50)).tobytes())) > 20


def test_the_picture_names_what_would_flatten_it(tmp_path: Path) -> None:
    from schedsearch.report.method_plot import _shown

    slow = rival_of("tome-0.2", [2.0, 2.0, 2.0, 2.0], kind="tome")
    poor = rival_of("bad-1", [90.0, 90.0, 90.0, 90.0])
    ratios = {**RATIOS, "tome-0.2": 1.3, "bad-1": 0.5}
    shown, left_out = _shown(methods_of([*ROWS, slow, poor], ratios), held_out=True)
    assert {entry.name for entry in left_out} == {"tome-0.2", "bad-1"}
    assert {entry.name for entry in shown} == set(RATIOS)
