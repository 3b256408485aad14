"""Seeds of runoffs and verdicts in a search space."""

from pathlib import Path

import pytest

from schedsearch.config import InvalidFileError, read_settings

SEVERAL = ("evaluation.confirm_training_seeds=3", "evaluation.runoff_training_seeds=2")


def test_training_seeds_choose_or_judge_and_are_no_trials(good: Path) -> None:
    settings = read_settings(good, [*SEVERAL, "search.seed=7"])
    judging, choosing = (
        settings.confirm_training_seeds_used,
        settings.runoff_training_seeds_used,
    )
    assert (len(judging), len(choosing)) == (3, 2)
    assert len({7, *judging, *choosing}) == 6
    plain = read_settings(good)
    assert not plain.confirm_training_seeds_used
    assert not plain.runoff_training_seeds_used


def test_no_seed_serves_two_purposes(good: Path) -> None:
    changes = "evaluation={seeds_per_trial: 3, num_samples: 500, control_samples: 3000, seed: 40}"
    settings = read_settings(good, [changes, *SEVERAL, "search.seed=7"])
    assert list(settings.trial_training_seeds_used) == [7, 8, 9]
    training = (
        settings.trial_training_seeds_used,
        settings.confirm_training_seeds_used,
        settings.runoff_training_seeds_used,
    )
    assert [seed for seeds in training for seed in seeds] == list(range(7, 7 + 3 + 3 + 2))
    evaluation = settings.evaluation
    assert evaluation.control_seeds_used[:3] == (40, 41, 42) == (*evaluation.trial_seeds_used,)
    seeds = (
        evaluation.control_seeds_used,
        evaluation.confirm_seeds_used,
        evaluation.runoff_seeds_used,
    )
    assert sorted(seed for some in seeds for seed in some) == list(range(40, 40 + 6 + 5 + 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("evaluation.confirm_training_seeds=1",),
            "evaluation.confirm_training_seeds: an interval over training seeds needs two of them",
        ),
        (
            ("evaluation={confirm_training_seeds: 2, confirm_seeds: 0}",),
            "evaluation.confirm_training_seeds: fine-tunes anew are measured at evaluation seeds, "
            "but confirm_seeds is 0",
        ),
        (
            ("evaluation={runoff_training_seeds: 2, runoff_seeds: 0}",),
            "evaluation.runoff_training_seeds: fine-tunes anew are measured at evaluation seeds, "
            "but runoff_seeds is 0",
        ),
        (
            (*SEVERAL, "profile={start: shared, num_steps: 5}"),
            "evaluation.runoff_training_seeds: trials start from one shared fine-tune",
        ),
        (
            (*SEVERAL, "recipe.num_steps=0"),
            "evaluation.confirm_training_seeds: with recipe.num_steps: 0 there is no fine-tune",
        ),
        (
            ("evaluation={num_samples: 500, control_samples: 999}",),
            "control_samples: must be 0, or a multiple of num_samples (500), 1000 at least",
        ),
        (
            ("evaluation={num_samples: 500, control_samples: 1200}",),
            "control_samples: must be 0, or a multiple of num_samples (500), 1000 at least",
        ),
        (
            ("evaluation={num_samples: 500, control_samples: 1500, seeds_per_trial: 3}",),
            "control_samples: must be 0, or a multiple of num_samples (500), 2000 at least",
        ),
        (("evaluation.seeds_per_trial=0",), "evaluation.seeds_per_trial: must be >= 1"),
        (
            ("evaluation.seeds_per_trial=2", "recipe.num_steps=0"),
            "evaluation.seeds_per_trial: with recipe.num_steps: 0 there is no fine-tune to repeat",
        ),
        (
            ("evaluation={runoff_training_seeds: 2, confirm_seeds: 0}",),
            "evaluation.runoff_training_seeds: fine-tunes anew are measured at evaluation seeds, "
            "but confirm_seeds is 0",
        ),
        (("evaluation.runoff_size=1",), "evaluation.runoff_size: must be >= 2"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_mistakes(good: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(good, options)
    assert any(message in str(problem) for problem in caught.value.problems)
