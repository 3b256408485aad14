"""The default proposer with many trials and many workers: what it costs, and what it repeats."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution

from schedsearch.planning import surrogate
from schedsearch.planning.surrogate import Surrogate
from schedsearch.proposers import additive
from schedsearch.proposers.registry import build_sampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SPACE = SearchSpace(2, 10, 10)
WEIGHTS = [2] * 10
COSTS = np.linspace(1.0, 0.1, 10)


def fid_of(schedule: ExitSchedule) -> float:
    noise = np.random.default_rng(list(schedule.depths)).normal()
    return float(np.exp(COSTS @ ((10 - np.array(schedule.depths)) / 8) ** 2 + 0.03 * noise))


def study_with(count: int, storage: optuna.storages.BaseStorage | None = None) -> optuna.Study:
    """A study with random results."""
    study = optuna.create_study(
        study_name="s", directions=["minimize"] * 2, storage=storage, load_if_exists=True
    )
    study.sampler = build_sampler("additive", SPACE, 0, WEIGHTS)
    rng, found = np.random.default_rng(0), dict[ExitSchedule, None]()
    while len(found) < count:
        found[SPACE.sample(rng)] = None
    for schedule in found:
        params = SPACE.to_params(schedule)
        trial = optuna.create_trial(
            params=params,
            distributions=dict.fromkeys(params, IntDistribution(2, 10)),
            values=[fid_of(schedule), float(sum(schedule.depths))],
            user_attrs={"depths": list(schedule.depths)},
        )
        study.add_trial(trial)
    return study


def ask(study: optuna.Study) -> tuple[optuna.Trial, ExitSchedule]:
    trial = study.ask()
    schedule = SPACE.suggest(trial)
    trial.set_user_attr("depths", list(schedule.depths))
    return trial, schedule


def propose(study: optuna.Study, count: int) -> list[ExitSchedule]:
    found = []
    for _ in range(count):
        trial, schedule = ask(study)
        study.tell(trial, (fid_of(schedule), float(sum(schedule.depths))))
        found.append(schedule)
    return found


@contextmanager
def factorisations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of the matrices that are factorised."""
    sizes: list[int] = []
    with monkeypatch.context() as patch:
        for name in ("cholesky", "eigh", "inv", "solve", "svd"):
            whole = getattr(np.linalg, name)

            def counted(matrix, *args, _whole=whole, **kwargs):
                sizes.append(len(matrix))
                return _whole(matrix, *args, **kwargs)

            patch.setattr(np.linalg, name, counted)
        yield sizes


def test_a_proposal_factorises_the_covariance_once_and_a_draw_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not once per candidate of the hyperparameters, which change at every tenth result."""
    study = study_with(300)
    propose(study, 1)
    with factorisations(monkeypatch) as sizes:
        propose(study, 2)
    assert sum(size >= 200 for size in sizes) <= 2 * 3  # with the joint draw


def test_the_size_of_a_fit_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate, "MOST_TRIALS", 150)
    monkeypatch.setattr("schedsearch.planning.prior_choice.MOST_TRIALS", 100)
    study = study_with(400)
    with factorisations(monkeypatch) as sizes:
        schedules = [ExitSchedule(t.user_attrs["depths"]) for t in study.trials]
        fids = [t.values[0] for t in study.trials]
        fitted = Surrogate.fit(SPACE, WEIGHTS, schedules, fids)
        fitted.table(np.random.default_rng(0))
    assert max(sizes) == 150
    mean, _ = fitted.predict(schedules)
    assert np.median(np.abs(mean - np.log(fids))) < 0.06  # twice the noise


def test_a_resumed_study_proposes_the_same_above_all_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surrogate, "MOST_TRIALS", 20)
    monkeypatch.setattr(additive, "CHOOSE_ALWAYS", 12)
    expected = propose(study_with(30), 12)
    storage = optuna.storages.InMemoryStorage()
    resumed = propose(study_with(30, storage), 5)
    for _ in range(7):  # a new process for each proposal
        study = optuna.load_study(study_name="s", storage=storage)
        study.sampler = build_sampler("additive", SPACE, 0, WEIGHTS)
        resumed += propose(study, 1)
    assert resumed == expected


def test_a_few_workers_have_a_fit_each_and_many_share_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = []
    whole = Surrogate.fit.__func__

    def fit(cls, *args):
        fits.append(args)
        return whole(cls, *args)

    monkeypatch.setattr(Surrogate, "fit", classmethod(fit))
    study = study_with(60)
    few = [ask(study)[1] for _ in range(24)]
    assert len(fits) == 24
    for _ in range(40):
        few.append(ask(study)[1])
    fits.clear()
    many = [ask(study)[1] for _ in range(64)]  # with 64 to 127 running: 4 to 7 for a fit
    assert 64 / 7 <= len(fits) <= 64 / 4
    assert len({*few, *many}) == 128
    blocks = [sum(schedule.depths) for schedule in many]
    assert max(blocks) - min(blocks) > 30
