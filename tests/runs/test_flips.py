"""A flipped bit in a file of a run is found, or changes nothing that is shown."""

from pathlib import Path

import pytest
from flips import FILES, FOUND, SAME, flipped_run, flipped_state, flipped_weights, small_run
from forks import forked_workers  # noqa: F401 - this module forks, see conftest

SHARED = ("results.jsonl", "confirmation.jsonl", "latency.json", "costs.json", "space.yaml")


@pytest.mark.parametrize("name", SHARED)
def test_a_few_flips_of_each_file(run_copy: Path, name: str) -> None:
    assert flipped_run(run_copy, name, 4) == {FOUND: 4}


def test_flips_of_a_saved_state(tmp_path: Path) -> None:
    assert set(flipped_state(tmp_path, 40)) <= {FOUND, SAME}


def test_flips_of_weights(run_copy: Path) -> None:
    assert set(flipped_weights(run_copy, 1, 8)) <= {FOUND, SAME}


@pytest.mark.slow
def test_many_flips_of_a_run_with_plans(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    for name in FILES:
        assert set(flipped_run(run, name, 6, seed=1)) <= {FOUND, SAME}, name
