"""The final tables and sentences."""

import io
import re
from typing import Any

import pytest
from driving import confirm_of, record_of, settings_of
from rich.console import Console

from schedsearch.report.conclusions import conclusions
from schedsearch.report.final import print_report
from schedsearch.report.tables import comparison_table, fid_name, front_table
from schedsearch.runs.results import LatencyReport, MeasuredLatency, RunResults
from schedsearch.schedules.hand_made import FULL

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 40.0),
    record_of(3, (7,) * 10, 2.5, 30.0, label="D3-DiT"),
    record_of(4, (6,) * 10, 9.0, 60.0),
]
LATENCY = LatencyReport(
    table={},
    full_ms=100.0,
    measured={
        n: MeasuredLatency(latency_ms=ms, spread_ms=0.5, acceleration=1 - ms / 100, repeats=3)
        for n, ms in ((0, 100.0), (1, 50.0), (2, 40.0), (3, 30.0))
    },
)


def results_of(step: float | None = -1.0, latency: LatencyReport | None = LATENCY) -> RunResults:
    confirmations = []
    if step is not None:
        for seed in (1, 2, 3):
            confirmations.append(confirm_of(1, seed, 4.0 + seed))
            confirmations.append(confirm_of(2, seed, 4.0 + seed + step + 0.01 * seed))
    return RunResults(
        settings_of(evaluation={"confirm_seeds": 5}), RECORDS, latency, confirmations
    )


def printed(table: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    return text.getvalue()


def row_of(table: str, word: str) -> str:
    (row,) = (line for line in table.splitlines() if word in line)
    return row


def test_the_front_stands_beside_its_baselines() -> None:
    text = printed(front_table(results_of()))
    assert "Pareto front of tiny" in text
    assert "FID (digits CNN, n=64)" in text
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["3", "1", "0"]  # by latency
    assert "●" in row_of(text, "D3-DiT")
    assert "●" not in row_of(text, "D2-DiT")
    assert "50.0 ± 0.5" in row_of(text, "D2-DiT")
    assert "50.0 ± 0.5%" in row_of(text, "D2-DiT")  # of 100 ms
    assert "0% (by 2)" in row_of(text, "D2-DiT")
    assert "6.000 ± " in row_of(text, "D2-DiT")


def test_predictions_are_marked() -> None:
    text = printed(front_table(results_of(latency=None)))
    assert "~30.0" in row_of(text, "D3-DiT")


@pytest.mark.parametrize(
    ("step", "difference", "verdict", "sentence"),
    [  # differences of step + 0.01, 0.02 and 0.03: t of two degrees times 0.01 / sqrt(3)
        (-1.0, "-0.980 ± 0.025", "better, sure (3 of 3 seeds)", r"is better than D2-DiT \("),
        (1.0, "+1.020 ± 0.025", "worse, sure (3 of 3 seeds)", r"is worse than D2-DiT \("),
        (-0.02, "+0.000 ± 0.025", "no difference seen", r"is no different.* from D2-DiT \("),
    ],
)
def test_verdicts(step: float, difference: str, verdict: str, sentence: str) -> None:
    results = results_of(step)
    row = row_of(printed(comparison_table(results)), "D2-DiT")
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:5] == ["D2-DiT", "50.0", f"trial 2: {' '.join('8' * 10)}", "40.0", difference]
    assert cells[5].startswith(verdict)
    (line,) = (line for line in conclusions(results, "runs/tiny") if line.startswith("How sure"))
    assert re.search(sentence, line)
    assert "3 fresh evaluation seeds" in line


def test_a_verdict_over_training_seeds_says_so() -> None:
    settings = settings_of(evaluation={"confirm_seeds": 2, "confirm_training_seeds": 3})
    anew = [
        confirm_of(n, seed, 4.0 + seed - (n == 2) + training / 1000 * n, training)
        for n in (1, 2)
        for training in settings.confirm_training_seeds_used
        for seed in settings.evaluation.confirm_seeds_used
    ]
    results = RunResults(settings, RECORDS, LATENCY, anew)
    row = row_of(printed(comparison_table(results)), "D2-DiT")
    assert "better, sure (3 of 3 training seeds)" in row
    (line,) = (line for line in conclusions(results, "runs/tiny") if line.startswith("How sure"))
    assert "over 3 fresh training seeds x 2 fresh evaluation seeds with the same noise" in line
    assert line.endswith("All other figures come from one fine-tune of each schedule.")
    (own,) = (
        line for line in conclusions(results_of(), "runs/tiny") if line.startswith("How sure")
    )
    assert own.endswith("another training seed may shift this.")


def test_a_preset_without_a_rival_and_one_without_seeds() -> None:
    text = printed(comparison_table(results_of(step=None)))
    assert "none is as fast" in row_of(text, "D3-DiT")
    assert "not confirmed" in row_of(text, "D2-DiT")


def test_conclusions_name_the_next_commands() -> None:
    lines = conclusions(RunResults(settings_of(), RECORDS[:3], None, []), "runs/tiny")
    # Counted in the box up to 3 x 2 and 1.01 x 100: 61 x 3 + 1, and 51 x 2 + 2, of 6 x 101.
    assert any(
        "Hypervolume 0.3036, of the hand-made schedules and full depth alone 0.1716" in line
        for line in lines
    )
    for command in ("dashboard runs/tiny", "pick runs/tiny --knee", "export runs/tiny --trial 2"):
        assert any(f"schedsearch {command}" in line for line in lines)


def test_the_next_commands_stand_there_also_when_the_hand_made_schedules_won() -> None:
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (9,) * 10, 3.0, 50.0, label="D2-DiT"),
        record_of(2, (8,) * 10, 4.0, 60.0),  # dominated
    ]
    lines = conclusions(RunResults(settings_of(), records, None, []), "runs/tiny")
    assert "schedsearch export runs/tiny --trial 0 " in lines[-1]


def test_a_long_front_is_shortened_and_says_so() -> None:
    records = [record_of(n, (n + 1,) * 10, 20.0 - n, 10.0 + n) for n in range(9)]
    results = RunResults(settings_of(), records, None, [])
    text = printed(front_table(results, max_searched=3))
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert rows == ["0", "3", "6"]
    assert "6 more on the front" in text
    assert "more on the front" not in printed(front_table(results))


def test_a_narrow_window_loses_no_numbers() -> None:
    text = io.StringIO()
    Console(file=text, width=80).print(front_table(results_of(), narrow=True))
    assert "…" not in text.getvalue()
    assert "50.0" in row_of(text.getvalue(), "D2-DiT")


def test_the_whole_report() -> None:
    text = io.StringIO()
    console = Console(file=text, width=150)
    print_report(
        console,
        results_of(),
        "runs/tiny",
        certificate="The surrogate sees at most 0.1 better.",
        stage_seconds={"trials": 90.0, "profile": 30.0, "runoff": 0.0},
    )
    shown = text.getvalue()
    for line in (
        "Pareto front of tiny",
        "Against the hand-made",
        "How sure",
        "The surrogate sees at most 0.1 better.",
        "Where the time went: trials 75%, profile 25% of 2 min 00 s on workers.",
    ):
        assert line in shown
    assert "KID" not in shown
    assert len(shown.splitlines()) < 40
    print_report(console, RunResults(settings_of(), [], None, []), "runs/tiny")
    assert text.getvalue() == shown


def test_nothing_is_claimed_of_nothing() -> None:
    empty = RunResults(settings_of(), [record_of(0, (9,) * 10, None)], None, [])
    assert conclusions(empty, "runs/tiny") == []
    assert fid_name([]) == "FID"
    for table in (front_table(empty), comparison_table(empty)):
        assert not [line for line in printed(table).splitlines() if line.startswith("│")]
