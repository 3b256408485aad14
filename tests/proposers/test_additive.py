"""The default proposer: it covers the front, and proposes nothing twice."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from schedsearch.pareto import Point, hypervolume
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.proposers.additive import AdditiveSampler
from schedsearch.proposers.gains import hypervolume_gains
from schedsearch.proposers.registry import build_sampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SPACE = SearchSpace(2, 10, 10)
WEIGHTS = [1, 2, 2, 2, 2, 3, 2, 2, 2, 2]
COSTS = np.array([0.6, 1.2, 0.9, 0.6, 0.3, 0.2, 0.05, 0.02, 0.02, 0.01])
"""Weights of the intervals in the made-up truth."""

WARM_STARTS = {
    "D2-DiT": (10, 10, 9, 9, 8, 8, 7, 7, 6, 6),
    "D7-DiT": (10, 10, 9, 8, 6, 5, 4, 4, 3, 3),
}


def fid_of(depths: tuple[int, ...]) -> float:
    """An additive log FID."""
    dropped = (10 - np.array(depths)) / 8
    return float(np.exp(-1.0 + COSTS @ dropped**2))


def add(study: optuna.Study, depths: tuple[int, ...], fid: float, label: str | None) -> None:
    params = SPACE.to_params(ExitSchedule(depths))
    study.add_trial(
        optuna.create_trial(
            params=params,
            distributions=dict.fromkeys(params, IntDistribution(2, 10)),
            values=[fid, 1.0],
            user_attrs={"depths": list(depths), "label": label},
            system_attrs={"fixed_params": params} if label else {},
        )
    )


def blocks(depths: Sequence[int]) -> int:
    return sum(w * d for w, d in zip(WEIGHTS, depths, strict=True))


def new_study(
    seed: int = 0,
    *,
    presets: bool = True,
    weights: Sequence[int] = WEIGHTS,
    table: ErrorTable | None = None,
) -> tuple[optuna.Study, AdditiveSampler]:
    study = optuna.create_study(directions=["minimize"] * 2)
    sampler = build_sampler("additive", SPACE, seed, weights, error_table=table)
    assert isinstance(sampler, AdditiveSampler)
    study.sampler = sampler
    if presets:
        add(study, (10,) * 10, fid_of((10,) * 10), "full")
        for name, depths in WARM_STARTS.items():
            add(study, depths, fid_of(depths), name)
    return study, sampler


def true_table() -> ErrorTable:
    """An error table that knows the made-up truth."""
    missing = (10 - np.arange(2, 11)) / 8
    excess = 0.1 * COSTS[:, None] * missing**2
    return ErrorTable(
        depths=tuple(range(2, 11)),
        losses=tuple(tuple(row) for row in (0.3 + excess).tolist()),
        standard_errors=((0.0,) * 9,) * 10,
        exits="uniform",
        num_steps=1,
        num_images=1,
        seed=0,
        seconds=0.0,
    )


def fraction(study: optuna.Study, sampler: AdditiveSampler) -> float:
    """Hypervolume of the trials, as a share of the exact front's."""
    levels = (10 - np.arange(2, 11)) / 8
    front = optimal_front(COSTS[:, None] * levels**2, SPACE, WEIGHTS)
    reference = (3 * fid_of((10,) * 10), 1.01 * sampler.deepest)
    exact = [(fid_of(p.schedule.depths), float(p.blocks)) for p in front]
    found = [tuple(t.user_attrs["depths"]) for t in study.trials]
    points = [(fid_of(depths), float(blocks(depths))) for depths in found]
    return hypervolume(points, reference) / hypervolume(exact, reference)


def propose(study: optuna.Study) -> tuple[int, ...]:
    trial = study.ask()
    depths = SPACE.suggest(trial).depths
    trial.set_user_attr("depths", list(depths))
    study.tell(trial, (fid_of(depths), 1.0))
    return depths


def test_proposals_are_new_and_cover_the_front_beside_the_presets() -> None:
    """Presets are baselines: the proposals go to the hypervolume, not to their latencies."""
    study, sampler = new_study(table=true_table())
    before = fraction(study, sampler)
    proposals = [propose(study) for _ in range(9)]
    assert len({*proposals, *WARM_STARTS.values()}) == 11
    assert before < 0.7
    assert fraction(study, sampler) > 0.94
    steps = np.diff(sorted([blocks(depths) for depths in proposals] + [sampler.deepest]))
    assert steps.max() <= 0.3 * (sampler.deepest - sampler.shallowest)


def test_a_search_beats_the_warm_starts_of_an_additive_truth() -> None:
    study, _ = new_study()
    proposals = [propose(study) for _ in range(12)]
    for depths in WARM_STARTS.values():
        best = min(fid_of(p) for p in proposals if blocks(p) < blocks(depths))
        assert best < fid_of(depths)


def test_the_hypervolume_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A percent above full depth's latency is several blocks where much else runs too."""
    seen = []

    def gains(points: np.ndarray, candidates: np.ndarray, reference: Point) -> np.ndarray:
        seen.append(reference)
        return hypervolume_gains(points, candidates, reference)

    monkeypatch.setattr("schedsearch.proposers.additive.hypervolume_gains", gains)
    for fixed_blocks in (0.0, 400.0):
        study, _ = new_study()
        study.sampler = AdditiveSampler(SPACE, 0, WEIGHTS, fixed_blocks=fixed_blocks)
        propose(study)
    assert [latency for _, latency in seen] == pytest.approx([1.01 * 200, 1.01 * 600 - 400])
    assert all(fid == pytest.approx(3 * fid_of((10,) * 10), rel=0.2) for fid, _ in seen)


def test_without_warm_starts_it_covers_the_front_better_than_stratified_draws() -> None:
    study, sampler = new_study(presets=False)
    plain, _ = new_study(presets=False)
    plain.sampler = build_sampler("stratified", SPACE, 0, WEIGHTS)
    for _ in range(20):
        propose(study)
        propose(plain)
    assert fraction(study, sampler) > fraction(plain, sampler) + 0.02
    assert fraction(study, sampler) > 0.95


def test_an_error_table_that_knows_helps_from_the_first_proposal() -> None:
    shares = []
    for table in (None, true_table()):
        study, sampler = new_study(presets=False, table=table)
        for _ in range(7):
            propose(study)
        shares.append(fraction(study, sampler))
    assert shares[1] > shares[0]


def test_workers_at_the_same_time_get_different_schedules() -> None:
    study, _ = new_study()
    running = []
    for _ in range(6):
        trial = study.ask()
        schedule = SPACE.suggest(trial)
        trial.set_user_attr("depths", list(schedule.depths))
        running.append(schedule)
    assert len(set(running)) == 6
    assert len({blocks(s.depths) for s in running}) > 3


def test_schedules_that_the_solver_cannot_tell_apart_are_proposed_once() -> None:
    weights = [3, 0, 0, 3, 0, 0, 3, 0, 0, 3]
    study, _ = new_study(presets=False, weights=weights)
    found = [propose(study) for _ in range(14)]
    visible = {tuple(d for d, w in zip(depths, weights, strict=True) if w) for depths in found}
    assert len(visible) == 14


def test_a_small_space_is_searched_to_its_end() -> None:
    """Four of five schedules are known: the fifth comes next, wherever it lies."""
    space = SearchSpace(1, 5, 1)
    study = optuna.create_study(directions=["minimize"] * 2)
    study.sampler = build_sampler("additive", space, 0, [2])
    for depth in (1, 2, 3, 5):
        study.add_trial(
            optuna.create_trial(
                params={"depth_0": depth},
                distributions={"depth_0": IntDistribution(1, 5)},
                values=[6.0 - depth, float(depth)],
                user_attrs={"depths": [depth]},
            )
        )
    assert space.suggest(study.ask()).depths == (4,)


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL])
def test_a_running_schedule_takes_its_gain_and_a_failed_one_does_not(
    monkeypatch: pytest.MonkeyPatch, state: TrialState
) -> None:
    seen = []

    def gains(points: np.ndarray, candidates: np.ndarray, reference: Point) -> np.ndarray:
        seen.extend(points[:, 1].tolist())
        return hypervolume_gains(points, candidates, reference)

    study, _ = new_study()
    trial = study.ask()
    trial.set_user_attr("depths", [7] * 10)
    if state is TrialState.FAIL:
        study.tell(trial, state=state)
    monkeypatch.setattr("schedsearch.proposers.additive.hypervolume_gains", gains)
    propose(study)
    assert (blocks([7] * 10) in seen) == (state is TrialState.RUNNING)


def test_failed_and_worthless_trials_teach_nothing() -> None:
    other, _ = new_study()
    for state, values in ((TrialState.FAIL, None), (TrialState.COMPLETE, [0.0, 1.0])):
        params = SPACE.to_params(ExitSchedule.flat(7))
        other.add_trial(
            optuna.create_trial(
                state=state,
                params=params,
                distributions=dict.fromkeys(params, IntDistribution(2, 10)),
                values=values,
                user_attrs={"depths": [7] * 10, "label": "flat"},
                system_attrs={"fixed_params": params},
            )
        )
    assert propose(other) != (7,) * 10
