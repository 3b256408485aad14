"""Tables of the final report."""

import re

import pytest
from driving import record_of
from made_up_runs import RECORDS, confirmed, large_run, printed, results_of, row_of

from schedsearch.report.findings import RunFindings, findings_of
from schedsearch.report.tables import WIDTH, front_table, preset_table
from schedsearch.runs.results import RunResults


def cells(table: str, word: str) -> list[str]:
    return [cell.strip() for cell in row_of(table, word)]


@pytest.mark.parametrize(
    "results",
    [
        large_run(10),
        large_run(28, fid_scale=0.1, full_ms=1234.5),
        large_run(28, fid_scale=150.0, full_ms=12345.6),
    ],
    ids=["depth 10", "depth 28", "large numbers"],
)
def test_nothing_is_wrapped_or_cut_at_100_columns(results: RunResults) -> None:
    found = findings_of(results)
    for table in (front_table(found), preset_table(found)):
        text = printed(table, WIDTH)
        assert all(len(line) <= WIDTH for line in text.splitlines())
        assert "…" not in text
        # A line per row, as where there is all the room in the world.
        wide = [line.rstrip() for line in printed(table, 300).splitlines()]
        assert [line.rstrip() for line in text.splitlines()] == wide
    front = printed(front_table(found), WIDTH)
    for entry in found.shown:
        words = row_of(front, f"{entry.title} ")
        assert " ".join(map(str, entry.depths)) in "  ".join(words)
    assert len(re.findall(r"\d ± \d", front)) == len(found.shown)


def test_a_narrow_window_loses_no_number() -> None:
    found = findings_of(large_run(28, full_ms=1234.5))
    for table in (front_table(found), preset_table(found)):
        text = printed(table, 80)
        assert "…" not in text
        assert re.findall(r"\S+ ± \S+", text) == re.findall(r"\S+ ± \S+", printed(table, 300))


def test_units_and_protocols_stand_in_the_legend() -> None:
    found = findings_of(results_of(confirmed({0: 2.0, 1: 4.0, 2: 3.0})))
    text = printed(front_table(found))
    heads = re.split(r"\s{2,}", text.splitlines()[2].strip())
    assert heads == [
        "schedule",
        "blocks, data → noise",
        "FID",
        "held-out FID",
        "ms",
        "saved",
        "front",
    ]
    assert "FID (digits CNN, n=64); ms per batch of 8" in text
    assert "held-out FID: 3 held-out seeds, n=64, 95 % interval" in text


def test_the_front_stands_beside_its_baselines_by_latency() -> None:
    found = findings_of(results_of(confirmed({0: 2.0, 1: 4.0, 2: 3.0})))
    text = printed(front_table(found))
    assert "Pareto front of tiny" in text
    titles = ("D3-DiT", "trial 2", "D2-DiT", "full")
    assert sorted(titles, key=text.index) == list(titles)
    assert "trial 4" not in text  # neither on the front nor an opponent
    assert cells(text, "D3-DiT") == [
        "D3-DiT",
        "7 7 7 7 7 7 7 7 7 7",
        "2.500",
        "30.0",
        "70.0%",
        "●",
    ]
    # Opponents are shown, also those off the front; D2 is dominated by trial 2 at every seed.
    assert cells(text, "trial 2")[-1] == "3/3"
    assert cells(text, "D2-DiT")[2:] == ["4.000", "4.000 ± 2.484", "50.0", "50.0%", "0/3"]
    assert cells(text, "full")[-1] == "● 3/3"


def test_without_held_out_seeds_there_is_no_column_for_them() -> None:
    text = printed(front_table(findings_of(results_of())))
    assert "held-out" not in text
    assert cells(text, "full")[2:] == ["2.000", "100.0", "0.0%", "●"]


def test_predictions_are_marked() -> None:
    text = printed(front_table(findings_of(results_of(measured=False))))
    assert "~30.0" in cells(text, "D3-DiT")
    assert "~: not measured after the last trial" in text
    assert "~" not in printed(front_table(findings_of(results_of())))


def test_a_long_front_is_shortened_and_says_so() -> None:
    records = [record_of(n, (n + 1,) * 10, 20.0 - n, 10.0 + n) for n in range(9)]
    found = findings_of(results_of(records=records))
    text = printed(front_table(found, max_searched=3))
    assert re.findall(r"trial \d", text) == ["trial 0", "trial 3", "trial 6"]
    assert "6 more: schedsearch front" in text
    assert "more:" not in printed(front_table(found))


def test_a_shortened_front_keeps_what_was_confirmed_and_every_baseline() -> None:
    records = [
        *RECORDS[:2],
        *(record_of(n, (n - 3,) * 10, 20.0 - n, 10.0 + n) for n in range(5, 12)),
    ]
    found = findings_of(results_of(confirmed({7: 3.0, 10: 3.0}), records))
    text = printed(front_table(found, max_searched=2))
    assert re.findall(r"trial \d+", text) == ["trial 7", "trial 10"]
    assert cells(text, "D2-DiT")
    assert cells(text, "full")


# ---- presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fid", "difference", "verdict"),
    [  # 0.01, 0.02 and 0.03 are added: t of two degrees times 0.01 / sqrt(3)
        (3.0, "-0.980 ± 0.025", "better"),
        (5.0, "+1.020 ± 0.025", "worse"),
        (3.99, "+0.010 ± 0.025", "not sure"),
    ],
)
def test_verdicts(fid: float, difference: str, verdict: str) -> None:
    text = printed(preset_table(findings_of(results_of(confirmed({1: 4.0, 2: fid})))))
    assert cells(text, "D2-DiT") == [
        "D2-DiT",
        "50.0",
        "trial 2",
        "40.0",
        difference,
        verdict,
        "20% faster",
    ]
    assert "FID difference: searched - preset, 95 % interval" in text


def test_a_preset_without_an_opponent_and_one_without_seeds() -> None:
    text = printed(preset_table(findings_of(results_of())))
    assert cells(text, "D3-DiT") == ["D3-DiT", "30.0", "none is as fast"]
    assert cells(text, "D2-DiT")[4:] == ["not confirmed", "20% faster"]


@pytest.mark.parametrize(("ms", "note"), [(48.6, False), (48.4, True)])
def test_an_opponent_that_is_faster_by_more_than_3_percent_is_noted(ms: float, note: bool) -> None:
    records = [*RECORDS[:2], record_of(2, (8,) * 10, 3.0, ms)]
    text = printed(preset_table(findings_of(results_of(records=records))))
    assert ("3% faster" in text) is note


def audited(audits: dict[int, float]) -> RunFindings:
    fresh = confirmed({1: 4.0, 2: 3.0}, audits)
    return findings_of(results_of(fresh, evaluation={"auditor": "digits_mlp"}))


@pytest.mark.parametrize(
    ("theirs", "verdict"), [(6.0, "better"), (4.0, "worse"), (5.0, "not sure")]
)
def test_the_auditor_has_a_column(theirs: float, verdict: str) -> None:
    text = printed(preset_table(audited({1: theirs, 2: 5.0})))
    assert cells(text, "D2-DiT")[5:7] == ["better", verdict]
    assert "auditor: digits_mlp" in text
    assert "auditor" not in printed(preset_table(findings_of(results_of())))
