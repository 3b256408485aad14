"""Proposers: what they draw, and that a resumed study goes on where it was."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from schedsearch.exceptions import ConfigError
from schedsearch.proposers.registry import build_sampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SPACE = SearchSpace(2, 10, 10)
WEIGHTS = [2] * 10
NAMES = ["additive", "stratified", "uniform", "tpe", "nsga2"]
"""Without ``gp``, which takes seconds per proposal."""


def new_study(name: str, seed: int = 0, storage: optuna.storages.BaseStorage | None = None):
    study = optuna.create_study(
        study_name="s", directions=["minimize"] * 2, storage=storage, load_if_exists=True
    )
    study.sampler = build_sampler(name, SPACE, seed, WEIGHTS, num_asked=len(study.trials))
    return study


def cost(depths: Sequence[int]) -> float:
    return float(sum(depths))


def ask(study: optuna.Study, count: int) -> list[ExitSchedule]:
    """Ask and tell: quality grows with depth, with some noise."""
    found = []
    for _ in range(count):
        trial = study.ask()
        schedule = SPACE.suggest(trial)
        trial.set_user_attr("depths", list(schedule.depths))
        total = cost(schedule.depths)
        study.tell(trial, (200.0 - total + schedule.depths[0], total))
        found.append(schedule)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_proposals_lie_in_the_space_and_a_seed_fixes_them(name: str) -> None:
    first = ask(new_study(name), 15)
    assert all(schedule in SPACE for schedule in first)
    assert ask(new_study(name), 15) == first
    assert ask(new_study(name, seed=1), 15) != first
    assert len(set(first)) > 10


@pytest.mark.parametrize("name", ["additive", "stratified", "uniform"])
def test_a_resumed_study_proposes_what_an_undisturbed_one_would(name: str) -> None:
    expected = ask(new_study(name), 14)
    storage = optuna.storages.InMemoryStorage()
    resumed = ask(new_study(name, storage=storage), 6) + ask(new_study(name, storage=storage), 8)
    assert resumed == expected


@pytest.mark.parametrize("name", ["additive", "stratified", "uniform"])
def test_a_retry_changes_no_proposal(name: str) -> None:
    expected = ask(new_study(name), 14)
    study = new_study(name)
    found = ask(study, 6)
    lost = study.ask()
    found.append(SPACE.suggest(lost))
    study.tell(lost, state=TrialState.FAIL)
    attrs = {"depths": list(found[-1].depths), "retry_of": lost.number}
    study.enqueue_trial(SPACE.to_params(found[-1]), user_attrs=attrs)
    assert ask(study, 8) == [found[-1], *expected[7:]]
    assert found == expected[:7]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_resumed_study_does_not_repeat_itself(name: str) -> None:
    storage = optuna.storages.InMemoryStorage()
    first = ask(new_study(name, storage=storage), 6)
    second = ask(new_study(name, storage=storage), 6)
    assert not set(first) & set(second)


def test_uniform_is_uniform() -> None:
    space = SearchSpace(9, 10, 3)
    sampler = build_sampler("uniform", space, 0, [1, 1, 1])
    study = optuna.create_study(directions=["minimize"] * 2)
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(study, rng) for _ in range(4000)]  # type: ignore[attr-defined]
    counts = np.array([drawn.count(schedule) for schedule in space.enumerate()])
    assert counts.sum() == 4000
    chi_squared = ((counts - 1000.0) ** 2 / 1000.0).sum()
    assert chi_squared < 16.3  # 99.9 % of the chi-squared distribution with 3 degrees


def test_strata_spread_the_costs() -> None:
    """Under a uniform draw hardly any schedule is cheap or dear."""

    def spread(name: str) -> float:
        costs = np.array([cost(s.depths) for s in ask(new_study(name), 40)])
        return float(costs.std())

    assert spread("stratified") > 1.2 * spread("uniform")


def test_enqueued_trials_take_no_stratum() -> None:
    plain, mixed = new_study("stratified"), new_study("stratified")
    mixed.enqueue_trial(SPACE.to_params(ExitSchedule.flat(10)))
    assert ask(mixed, 1) == [ExitSchedule.flat(10)]
    blocks = [[cost(s.depths) for s in ask(study, 12)] for study in (plain, mixed)]
    width = 0.06 * (100 - 20)
    assert np.abs(np.subtract(*blocks)).max() <= width + 1


def test_an_unknown_parameter_is_a_mistake() -> None:
    study = new_study("uniform")
    with pytest.raises(ValueError, match="'learning_rate' is not a parameter"):
        study.ask().suggest_float("learning_rate", 0, 1)


@pytest.mark.slow
def test_the_gaussian_process_serves_two_objectives() -> None:
    """Eleven trials: its own ten random ones, and one from the model."""
    space = SearchSpace(1, 8, 2)
    study = optuna.create_study(directions=["minimize"] * 2)
    study.sampler = build_sampler("gp", space, 0, [1, 1])
    assert isinstance(study.sampler, optuna.samplers.GPSampler)
    for _ in range(11):
        trial = study.ask()
        schedule = space.suggest(trial)
        assert schedule in space
        study.tell(trial, (20.0 - sum(schedule.depths), cost(schedule.depths)))


def test_failed_trials_do_no_harm() -> None:
    for name in NAMES:
        study = new_study(name)
        for _ in range(8):
            trial = study.ask()
            SPACE.suggest(trial)
            study.tell(trial, state=TrialState.FAIL)
        assert len(set(ask(study, 3))) == 3


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="not 'grid'"):
        build_sampler("grid", SPACE, 0, WEIGHTS)
