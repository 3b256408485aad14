"""Presets against searched schedules that are no slower."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from driving import confirm_of, entry_of

from schedsearch.records import ConfirmRecord
from schedsearch.runs.comparison import candidates_for, compare, opponent_of
from schedsearch.runs.entry import FrontEntry

PRESET = entry_of(1, 4.0, 50.0, "D2-DiT")


def searched(
    trial: int,
    fid: float,
    ms: float,
    *,
    predicted: float = 45.0,
    half_width: float | None = 0.5,
    source: str = "measured",
) -> FrontEntry:
    entry = entry_of(trial, fid, ms)
    latency = replace(
        entry.latency, predicted_ms=predicted, half_width_ms=half_width, source=source
    )
    return replace(entry, latency=latency)


def trial_of(entry: FrontEntry | None) -> int | None:
    return None if entry is None else entry.trial


@pytest.mark.parametrize(
    ("entries", "trial"),
    [
        pytest.param([searched(2, 3.0, 45.0)], 2, id="faster"),
        pytest.param([searched(2, 9.0, 45.0)], 2, id="a worse FID is an opponent too"),
        pytest.param([searched(2, 3.0, 45.0, predicted=50.0)], 2, id="as fast by the model"),
        pytest.param([searched(2, 3.0, 45.0, predicted=50.1)], None, id="slower by the model"),
        pytest.param([searched(2, 3.0, 50.5)], 2, id="measured slower within its interval"),
        pytest.param([searched(2, 3.0, 50.6)], None, id="measured slower beyond it"),
        pytest.param([searched(2, 3.0, 50.1, half_width=None)], None, id="no interval"),
        pytest.param([searched(2, 3.0, 45.0, source="predicted")], None, id="not measured"),
        pytest.param(
            [searched(2, 3.0, 45.0), searched(3, 2.9, 45.0)], 3, id="the best FID of the search"
        ),
        pytest.param(
            [searched(2, 3.0, 60.0), searched(3, 3.5, 45.0)], 3, id="the next one where slower"
        ),
        pytest.param([], None, id="nothing was searched"),
    ],
)
def test_the_opponent_is_the_best_that_is_no_slower(
    entries: list[FrontEntry], trial: int | None
) -> None:
    assert trial_of(opponent_of(PRESET, entries)) == trial


def test_predictions_compare_with_predictions() -> None:
    preset = replace(PRESET, latency=replace(PRESET.latency, source="predicted"))
    entries = [searched(2, 3.0, 45.0), searched(3, 3.5, 45.0, source="predicted")]
    assert trial_of(opponent_of(preset, entries)) == 3


def test_candidates_are_ordered_by_fid_then_modelled_latency() -> None:
    entries = [
        searched(2, 3.0, 45.0, predicted=49.0),
        searched(3, 3.0, 45.0, predicted=40.0),
        searched(4, 2.0, 99.0),
        searched(5, 1.0, 45.0, predicted=51.0),
    ]
    assert [entry.trial for entry in candidates_for(PRESET, entries)] == [4, 3, 2]


# ---- verdicts ---------------------------------------------------------------------------------

OPPONENT = searched(2, 3.0, 45.0)


def confirmed(entry: FrontEntry, fids: Iterable[float], audit: float | None = None) -> FrontEntry:
    records = [
        replace(confirm_of(entry.trial, seed, fid), audit_fid=audit and audit + seed / 10)
        for seed, fid in enumerate(fids, start=1)
    ]
    return replace(entry, confirmed=tuple(records))


def retrained(
    trial: int, fids: dict[int, list[float]], audit: float | None = None
) -> list[ConfirmRecord]:
    """Training seed k is measured with the evaluation seeds 10 k, 10 k + 1, ..."""
    return [
        replace(confirm_of(trial, 10 * training + i, fid, training), audit_fid=audit)
        for training, values in fids.items()
        for i, fid in enumerate(values)
    ]


def test_held_out_seeds_judge_in_pairs() -> None:
    preset = confirmed(PRESET, [4.0, 6.0, 8.0], audit=20.0)
    opponent = confirmed(OPPONENT, [3.0, 5.0, 7.0], audit=25.0)
    found = compare(preset, opponent, [], 3)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(-1.0)
    assert found.difference.half_width == pytest.approx(0.0, abs=1e-9)  # the noise is common
    assert (found.difference.num_seeds, found.difference.verdict) == (3, "better")
    assert found.audit is not None
    assert (found.audit.mean, found.audit.verdict) == (pytest.approx(5.0), "worse")
    assert found.num_training_seeds == 0
    assert found.time_saved == pytest.approx(0.1)


def test_nothing_is_judged_without_an_opponent_or_seeds() -> None:
    alone = compare(confirmed(PRESET, [4.0, 6.0]), None, [], 2)
    assert (alone.searched, alone.difference, alone.time_saved) == (None, None, 0.0)
    assert compare(confirmed(PRESET, [4.0, 6.0]), OPPONENT, [], 2).difference is None
    one_seed = compare(confirmed(PRESET, [4.0]), confirmed(OPPONENT, [3.0]), [], 2)
    assert one_seed.difference is None


def test_training_seeds_judge_where_both_were_retrained() -> None:
    preset, opponent = confirmed(PRESET, [9.0, 9.1]), confirmed(OPPONENT, [1.0, 1.1])
    records = [
        *retrained(1, {5: [4.0, 4.2], 6: [4.1, 4.3], 7: [4.2, 4.4]}, audit=2.0),
        *retrained(2, {5: [4.5, 4.7], 6: [4.7, 4.9], 7: [4.6, 4.8]}, audit=1.0),
    ]
    found = compare(preset, opponent, records, 2)
    assert found.num_training_seeds == 3
    assert found.difference is not None
    # Means over evaluation seeds: 4.6, 4.8, 4.7 against 4.1, 4.2, 4.3.
    assert found.difference.mean == pytest.approx((0.5 + 0.6 + 0.4) / 3)
    assert found.difference.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5)
    assert found.difference.verdict == "worse"
    assert found.audit is not None
    assert found.audit.mean == pytest.approx(-1.0)


def test_a_training_seed_that_lacks_evaluation_seeds_is_left_out() -> None:
    records = [
        *retrained(1, {5: [4.0, 4.0], 6: [4.0, 4.0], 7: [4.0, 4.0]}),
        *retrained(2, {5: [5.0, 5.0], 6: [7.0, 7.0], 7: [99.0]}),
    ]
    found = compare(PRESET, OPPONENT, records, 2)
    assert found.num_training_seeds == 2
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(2.0)


def test_one_complete_training_seed_is_not_enough() -> None:
    preset, opponent = confirmed(PRESET, [4.0, 4.0]), confirmed(OPPONENT, [3.0, 3.1])
    records = [*retrained(1, {5: [4.0, 4.0]}), *retrained(2, {5: [9.0, 9.0], 6: [9.0]})]
    found = compare(preset, opponent, records, 2)
    assert (found.num_training_seeds, found.difference and found.difference.num_seeds) == (0, 2)
