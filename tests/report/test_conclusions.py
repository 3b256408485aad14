"""Headline and sentences of the final report."""

from dataclasses import replace

import pytest
from driving import record_of
from made_up_runs import RECORDS, confirmed, results_of, retrained
from made_up_starts import check_of

from schedsearch.report.conclusions import conclusions, headline
from schedsearch.report.findings import findings_of
from schedsearch.runs.costs import Costs, StageCost
from schedsearch.runs.results import RunResults

COSTS = Costs(
    wall_seconds=65.0,
    stages={
        "profile": StageCost(jobs=1, device_seconds=30.0),
        "trials": StageCost(jobs=3, device_seconds=90.0),
        "failed trials": StageCost(jobs=1, device_seconds=0.01),
    },
)


def sentences(results: RunResults, costs: Costs | None = None) -> list[str]:
    return conclusions(findings_of(results), "runs/tiny", costs)


def test_the_headline_has_both_hypervolumes() -> None:
    # Counted in the box up to 3 x 2 and 1.01 x 100: 61 x 3 + 1, and 51 x 2 + 2, of 6 x 101.
    assert headline(findings_of(results_of(records=RECORDS[:3]))) == (
        "Hypervolume of the front: 0.304; of full depth and the hand-made schedules: 0.172."
    )
    assert headline(findings_of(results_of(records=RECORDS[1:]))) is None  # no units


@pytest.mark.parametrize(
    ("fid", "sentence"),
    [
        (3.0, "Searched schedules beat D2-DiT at no higher latency"),
        (5.0, "Below D2-DiT the search is 20% faster and worse"),
        (3.98, "Not sure against D2-DiT"),
    ],
)
def test_what_beats_what(fid: float, sentence: str) -> None:
    lines = sentences(results_of(confirmed({1: 4.0, 2: fid})))
    assert lines[0] == f"{sentence} (95 % intervals over 3 held-out seeds)."
    assert len(lines) == 3


def test_several_presets_share_a_sentence() -> None:
    records = [
        *RECORDS[:3],
        record_of(3, (7,) * 10, 2.5, 41.0, label="D3-DiT"),
        record_of(5, (5,) * 10, 2.6, 40.5, label="D4-DiT"),
    ]
    fids = {1: 4.0, 2: 3.0, 3: 2.0, 5: 2.1}  # by trial; trial 2 is the opponent of all
    first, *_ = sentences(results_of(confirmed(fids), records))
    assert first.startswith(
        "Searched schedules beat D2-DiT at no higher latency; D3-DiT and D4-DiT beat the search ("
    )


def test_presets_that_are_beaten_only_in_speed_share_a_range() -> None:
    records = [*RECORDS[:3], record_of(3, (7,) * 10, 2.5, 60.0, label="D3-DiT")]
    first, *_ = sentences(results_of(confirmed({1: 4.0, 2: 5.0, 3: 2.0}), records))
    assert first.startswith("Below D2-DiT and D3-DiT the search is 20 to 33% faster and worse (")


def test_intervals_over_training_seeds_say_so() -> None:
    fresh = [*confirmed({1: 4.0, 2: 9.0}), *retrained({1: 4.0, 2: 3.0})]
    first, second, *_ = sentences(results_of(fresh))
    assert first == (
        "Searched schedules beat D2-DiT at no higher latency (95 % intervals over 2 training "
        "seeds)."
    )
    assert second.startswith("Next:")  # nothing to warn of


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"num_steps": 2}, "Each was fine-tuned once, so other training seeds may differ."),
        ({"num_steps": 0}, "No schedule was fine-tuned."),
        ({"weights": "shared"}, "All schedules share one set of tuned weights."),
    ],
)
def test_the_reader_learns_what_training_is_behind_the_verdicts(
    recipe: dict[str, object], sentence: str
) -> None:
    assert sentences(results_of(confirmed({1: 4.0, 2: 3.0}), recipe=recipe))[1] == sentence


@pytest.mark.parametrize(("theirs", "disagrees"), [(6.0, False), (5.0, False), (4.0, True)])
def test_an_auditor_that_says_the_opposite_is_named(theirs: float, disagrees: bool) -> None:
    fresh = confirmed({1: 4.0, 2: 3.0}, audits={1: theirs, 2: 5.0})
    lines = sentences(results_of(fresh))
    assert ("the auditor disagrees on D2-DiT" in lines[1]) is disagrees


def test_a_search_that_ranks_badly_is_warned_of() -> None:
    reverse = {0: 9.0, 1: 4.0, 2: 5.0, 3: 6.0, 4: 2.0}
    (warning,) = (x for x in sentences(results_of(confirmed(reverse))) if "ranked" in x)
    assert "the search ranked badly (Kendall's tau -1.00): use more steps" in warning
    same = {0: 2.0, 1: 4.0, 2: 3.0, 3: 2.5, 4: 9.0}
    assert not [line for line in sentences(results_of(confirmed(same))) if "ranked" in line]


def test_where_the_time_went() -> None:
    assert sentences(results_of(records=RECORDS[:1]), COSTS) == [
        "Time: 1 min 05 s, 2 min 00 s on workers: trials 75%, profile 25%.",
        "Next: schedsearch pick runs/tiny --knee",
    ]
    assert sentences(results_of(records=RECORDS[:1]), Costs()) == [
        "Next: schedsearch pick runs/tiny --knee"
    ]


def test_there_are_at_most_five_short_sentences() -> None:
    """With everything that can go wrong in one run."""
    fids = {0: 9.0, 1: 4.0, 2: 5.0, 3: 6.0, 4: 2.0}
    audits = {**fids, 1: 9.5}
    copies = [replace(r, near_copies=0.02 * r.number) for r in confirmed(fids, audits)]
    lines = sentences(results_of(copies), COSTS)
    assert len(lines) == 5
    assert all(len(line.split()) <= 25 for line in lines)
    for words in ("Below D2-DiT", "fine-tuned once", "auditor disagrees", "ranked", "may flatter"):
        assert any(words in line for line in lines)


@pytest.mark.parametrize(("audit", "where"), [(0.5, "exit adapters"), (1.5, "plain exits")])
def test_the_start_of_the_fine_tunes_is_said(audit: float, where: str) -> None:
    results = results_of(confirmed({1: 4.0, 2: 3.0}))
    plain = sentences(results)
    results.start = check_of(1.0, audit)
    (said,) = set(sentences(results)) - set(plain)
    assert said.startswith(f"Fine-tunes start from {where}")
