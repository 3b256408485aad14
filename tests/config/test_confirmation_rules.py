"""Rules for the seeds that retrain and compare schedules."""

from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings


def test_no_seed_serves_two_purposes(good: Path) -> None:
    options = ["evaluation={confirm_training_seeds: 3, seed: 40}", "search.seed=7"]
    settings = read_settings(good, options)
    evaluation = settings.evaluation
    assert settings.confirm_training_seeds_used == range(8, 11)
    used = [40, *evaluation.confirm_seeds_used]
    for index in range(3):
        used += evaluation.retrain_seeds_used(index)
    assert len(set(used)) == len(used) == 1 + 5 * 4
    assert not read_settings(good).confirm_training_seeds_used


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("evaluation.confirm_training_seeds=1",),
            "evaluation.confirm_training_seeds: an interval over training seeds needs two of them",
        ),
        (
            ("evaluation={confirm_training_seeds: 2, confirm_seeds: 0}",),
            "retrained schedules are measured at held-out seeds, but confirm_seeds is 0; set",
        ),
        (
            ("evaluation.confirm_training_seeds=3", "recipe.num_steps=0"),
            "evaluation.confirm_training_seeds: with recipe.num_steps: 0 there is no fine-tune",
        ),
        (
            ("evaluation.confirm_training_seeds=3", "recipe.weights=shared"),
            "confirm_training_seeds: with recipe.weights: shared there is one fine-tune",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_mistakes(good: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(good, options)
    (problem,) = caught.value.problems
    assert message in str(problem)
