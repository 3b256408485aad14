"""Means of what judges besides FID say."""

from dataclasses import replace

import pytest
from driving import confirm_of, entry_of, record_of
from made_up_methods import ROWS, methods_of

from schedsearch.runs.entry import Judges


def test_held_out_seeds_count_and_else_the_search_does() -> None:
    entry = entry_of(1, 4.0, 10.0)
    own = Judges(sample_std=0.5, reference_std=0.5, nn_distance=2.0, near_copies=0.05)
    assert entry.judges == own
    seeds = [
        replace(confirm_of(1, seed, 4.0), sample_std=0.5 + seed, nn_distance=1.0 + seed)
        for seed in (1, 2)
    ]
    confirmed = replace(entry, confirmed=tuple(seeds))
    assert confirmed.judges == replace(own, sample_std=2.0, nn_distance=2.5)


def test_a_mean_without_one_of_its_values_is_no_mean() -> None:
    seeds = [confirm_of(1, 1, 4.0), replace(confirm_of(1, 2, 4.0), near_copies=None)]
    judges = replace(entry_of(1, 4.0, 10.0), confirmed=tuple(seeds)).judges
    assert (judges.nn_distance, judges.near_copies) == (2.0, None)


def test_methods_take_all_training_seeds() -> None:
    search, *held_out = ROWS[2].qualities
    copies = [replace(search, near_copies=0.9), *(replace(q, near_copies=0.2) for q in held_out)]
    seeds = [ROWS[2], replace(ROWS[2], training_seed=1, qualities=tuple(copies))]
    (entry,) = methods_of(seeds).entries
    assert round(entry.judges.near_copies or 0, 6) == 0.125
    trial = record_of(1, (5,) * 10, 2.2, 50.0)
    methods = methods_of(trials=[record_of(0, (10,) * 10, 2.0, 100.0, label="full"), trial])
    rows = {row["name"]: row for row in methods.as_rows()}
    assert rows["trial 1"]["near_copies"] == 0.05
    assert rows["steps-12"]["near_copies"] == pytest.approx(0.05)
    assert rows["steps-12"]["reference_std"] == 0.5
