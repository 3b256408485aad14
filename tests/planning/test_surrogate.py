"""The surrogate: what it learns, how sure it is, and what it survives."""

import numpy as np
import pytest
from made_up_tables import noise_easy, table_of

from schedsearch.pareto import non_dominated
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.prior import prior_table
from schedsearch.planning.surrogate import Surrogate, surrogate_front, telling_trials
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SPACE = SearchSpace(1, 6, 10)
WEIGHTS = [2] * 10
TRUTH = noise_easy(6) * np.array([1, 3, 0.2, 1, 2, 1, 0.5, 3, 1, 1])[:, None] / 8
TABLE = table_of(noise_easy(6), range(1, 7))


def log_fid(schedule: ExitSchedule) -> float:
    return -1.0 + float(TRUTH[np.arange(10), np.array(schedule.depths) - 1].sum())


def schedules(count: int, seed: int = 0) -> list[ExitSchedule]:
    rng = np.random.default_rng(seed)
    full = ExitSchedule.flat(6)
    return [full, *(SPACE.sample(rng) for _ in range(count - 1))]


def fitted(count: int, noise: float = 0.0, with_table: bool = True) -> Surrogate:
    measured = schedules(count)
    errors = noise * np.random.default_rng(1).normal(size=count)
    fids = [float(np.exp(log_fid(s) + e)) for s, e in zip(measured, errors, strict=True)]
    return Surrogate.fit(SPACE, WEIGHTS, measured, fids, TABLE if with_table else None)


def error_of(surrogate: Surrogate) -> float:
    fresh = schedules(200, seed=9)
    mean, _ = surrogate.predict(fresh)
    return float(np.sqrt(np.mean((mean - [log_fid(s) for s in fresh]) ** 2)))


@pytest.mark.parametrize("with_table", [True, False])
def test_trials_correct_the_prior(with_table: bool) -> None:
    errors = [error_of(fitted(count, with_table=with_table)) for count in (4, 20, 80)]
    spread = np.std([log_fid(s) for s in schedules(200, seed=9)])
    assert errors[0] < spread
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.05 * spread


def test_the_table_alone_predicts_where_sums_are_the_truth() -> None:
    """Also where an interval loses evenly with depth, and not as the prior expects."""
    truth = np.linspace(1.0, 0.2, 10)[:, None] * np.linspace(1, 0, 6) / 3

    def sums(costs: np.ndarray, chosen: list[ExitSchedule]) -> np.ndarray:
        return np.array([costs[np.arange(10), np.array(s.depths) - 1].sum() for s in chosen])

    measured, fresh = schedules(100), schedules(200, seed=9)
    fids = np.exp(sums(truth, measured)).tolist()
    for table in (TABLE, None):
        intercept, costs = Surrogate.fit(SPACE, WEIGHTS, measured, fids, table).table()
        errors = intercept + sums(costs, fresh) - sums(truth, fresh)
        assert errors.std() < 0.04


def test_a_true_table_replaces_trials() -> None:
    measured = schedules(6)
    fids = [float(np.exp(log_fid(s))) for s in measured]
    true = table_of(TRUTH, range(1, 7))
    informed = Surrogate.fit(SPACE, WEIGHTS, measured, fids, true)
    assert error_of(informed) < 0.7 * error_of(fitted(6, with_table=False))


def test_it_knows_how_wrong_it_is() -> None:
    for count in (8, 30, 100):
        surrogate = fitted(count, noise=0.05)
        fresh = schedules(300, seed=5)
        mean, cov = surrogate.predict(fresh)
        scores = (mean - [log_fid(s) for s in fresh]) / np.sqrt(np.diag(cov))
        assert 0.2 < np.sqrt(np.mean(scores**2)) < 2.0


def test_the_noise_level_is_found() -> None:
    assert fitted(150, noise=0.08).noise == 0.08
    assert fitted(150, noise=0.01).noise <= 0.02


def test_mean_table_and_draws_agree_with_the_predictions() -> None:
    surrogate, fresh = fitted(12, noise=0.05), schedules(6, seed=3)
    levels = np.array([s.depths for s in fresh]) - 1
    rng = np.random.default_rng(0)

    def sums(table: tuple[float, np.ndarray]) -> np.ndarray:
        return table[0] + table[1][np.arange(10), levels].sum(axis=1)

    mean, cov = surrogate.predict(fresh)
    tables = np.array([sums(surrogate.table(rng)) for _ in range(600)])
    whole = np.array([surrogate.draw(fresh, rng) for _ in range(600)])
    sd = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(tables.mean(0), sums(surrogate.table()), atol=0.2 * sd.max())
    np.testing.assert_allclose(whole.mean(0), mean, atol=0.2 * sd.max())
    np.testing.assert_allclose(whole.std(0), sd, rtol=0.15)
    # The table leaves out the interaction, whose standard deviation is 0.1 at most.
    assert (np.abs(sums(surrogate.table()) - mean) <= 0.2).all()
    assert (tables.std(0) <= sd + 0.05).all()
    assert (tables.std(0) >= 0.5 * sd - 0.1).all()


def test_the_surrogate_s_front_bounds_all_schedules() -> None:
    surrogate = fitted(20)
    front = surrogate_front(surrogate, WEIGHTS)
    costs = [schedule.num_blocks(WEIGHTS) for schedule, _ in front]
    fids = [fid for _, fid in front]
    assert costs == sorted(set(costs))
    assert fids == sorted(fids, reverse=True)
    intercept, table = surrogate.table()
    for schedule in [*schedules(200, seed=7), *(schedule for schedule, _ in front)]:
        levels = np.array(schedule.depths) - 1
        expected = np.exp(intercept + table[np.arange(10), levels].sum())
        best = min(
            fid for s, fid in front if s.num_blocks(WEIGHTS) <= schedule.num_blocks(WEIGHTS)
        )
        assert best <= expected * (1 + 1e-9)


def test_the_surrogate_s_front_learns_the_true_one() -> None:
    front = surrogate_front(fitted(100), WEIGHTS)
    true = {plan.blocks: plan.cost for plan in optimal_front(TRUTH, SPACE, WEIGHTS)}
    errors = [np.log(fid) + 1.0 - true[s.num_blocks(WEIGHTS)] for s, fid in front]
    assert np.abs(errors).mean() < 0.05


def test_full_depth_costs_nothing_in_any_table() -> None:
    for rng in (None, np.random.default_rng(0)):
        _, costs = fitted(20).table(rng)
        np.testing.assert_allclose(costs[:, -1], 0.0, atol=1e-5)


def test_an_interval_that_the_solver_skips_costs_nothing() -> None:
    weights = [2, 2, 2, 2, 2, 2, 2, 0, 2, 2]
    measured = schedules(10)
    fids = [float(np.exp(log_fid(s))) for s in measured]
    for table in (TABLE, None):
        assert (prior_table(SPACE, weights, table)[7] == 0).all()
        surrogate = Surrogate.fit(SPACE, weights, measured, fids, table)
        assert (surrogate.table(np.random.default_rng(0))[1][7] == 0).all()


@pytest.mark.parametrize("count", [1, 2, 4, 300])
def test_few_and_many_trials(count: int) -> None:
    surrogate = fitted(count, noise=0.02)
    intercept, costs = surrogate.table(np.random.default_rng(0))
    assert np.isfinite(intercept)
    assert np.isfinite(costs).all()
    assert np.isfinite(surrogate.draw(schedules(50, seed=2), np.random.default_rng(0))).all()


def test_equal_fids_and_repeated_schedules_do_no_harm() -> None:
    same = [ExitSchedule.flat(3)] * 5
    surrogate = Surrogate.fit(SPACE, WEIGHTS, same, [2.0] * 5)
    mean, _ = surrogate.predict(same[:1])
    assert mean[0] == pytest.approx(np.log(2.0), abs=0.02)


def test_a_ruined_trial_does_not_bend_the_model() -> None:
    measured = schedules(20)
    fids = [float(np.exp(log_fid(s))) for s in measured]
    ruined = [*fids[:-1], 1e9]
    surrogate = Surrogate.fit(SPACE, WEIGHTS, measured, ruined, TABLE)
    good = [s for s in schedules(100, seed=4) if min(s.depths) > 1]
    mean, _ = surrogate.predict(good)
    assert np.abs(mean - [log_fid(s) for s in good]).mean() < 0.3


def test_a_space_with_one_depth() -> None:
    space = SearchSpace(4, 4, 3)
    surrogate = Surrogate.fit(space, [1, 1, 1], [ExitSchedule.flat(4, 3)], [1.0])
    assert surrogate.table()[1].shape == (3, 1)


@pytest.mark.parametrize("fids", [[], [float("nan")], [0.0], [1.0, 2.0]])
def test_fids_that_are_none(fids: list[float]) -> None:
    with pytest.raises(ValueError, match="A surrogate needs"):
        Surrogate.fit(SPACE, WEIGHTS, [ExitSchedule.flat(3)], fids)


def test_noise_in_the_table_is_no_prior() -> None:
    """A shallow exit that wins by chance in the table does not in the prior."""
    excess = noise_easy(6)
    excess[4, 2] = -0.5
    prior = prior_table(SPACE, WEIGHTS, table_of(excess, range(1, 7)))
    assert (np.diff(prior, axis=1) <= 0).all()
    assert prior[:, 0].sum() == pytest.approx(1.0)


def test_of_many_trials_the_front_and_a_spread_of_others_teach() -> None:
    rng = np.random.default_rng(0)
    blocks, values = rng.integers(20, 100, 400), rng.normal(size=400)
    chosen = telling_trials(blocks, values, 60)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == 60
    points = list(zip(values.tolist(), blocks.tolist(), strict=True))
    assert set(non_dominated(points)) <= set(chosen)
    assert (blocks[chosen].min(), blocks[chosen].max()) == (blocks.min(), blocks.max())
    assert np.diff(np.sort(blocks[chosen])).max() <= 6
    np.testing.assert_array_equal(telling_trials(blocks, values, 400), np.arange(400))
