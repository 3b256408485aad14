"""The default proposer: its model of FID, and where it proposes."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from schedsearch.pareto import hypervolume
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.surrogate import Surrogate
from schedsearch.proposers.additive import COVER_EVERY, NUM_DRAWS, OPTIMISM, AdditiveSampler
from schedsearch.proposers.registry import build_sampler
from schedsearch.proposers.warm_strata import SURE_TRIES, strata_below_warm_starts
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


BELOW = 0.99
"""How much of a warm start's cost a proposal below it may have, without fixed blocks."""


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
    points = [(fid_of(depths), float(sampler.blocks(depths))) for depths in found]
    return hypervolume(points, reference) / hypervolume(exact, reference)


def propose(study: optuna.Study) -> tuple[int, ...]:
    trial = study.ask()
    depths = SPACE.suggest(trial).depths
    trial.set_user_attr("depths", list(depths))
    study.tell(trial, (fid_of(depths), 1.0))
    return depths


def test_two_of_three_proposals_stay_just_below_a_warm_start_and_all_are_new() -> None:
    study, sampler = new_study()
    proposals = [propose(study) for _ in range(9)]
    assert len({*proposals, *WARM_STARTS.values()}) == 11
    anchors = [sampler.blocks(depths) for depths in WARM_STARTS.values()]
    for depths in (p for count, p in enumerate(proposals, start=1) if count % COVER_EVERY):
        blocks = sampler.blocks(depths)
        gaps = [anchor - blocks for anchor in anchors if blocks <= BELOW * anchor]
        assert gaps
        assert min(gaps) <= sampler.width_blocks


def test_a_search_beats_the_warm_starts_of_an_additive_truth() -> None:
    study, sampler = new_study()
    proposals = [propose(study) for _ in range(12)]
    for depths in WARM_STARTS.values():
        limit = sampler.blocks(depths)
        best = min(fid_of(p) for p in proposals if sampler.blocks(p) < limit)
        assert best < fid_of(depths)


def test_the_optimum_with_the_lowest_bound_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several tables' optima, all in the stratum, and with the running trials in mind."""
    study, sampler = new_study()
    running = study.ask()
    running.set_user_attr("depths", [9] * 10)
    seen: dict[str, list[ExitSchedule]] = {}

    def prefer_the_second(
        _: Surrogate, schedules: list[ExitSchedule], num_sds: float, others: list[ExitSchedule]
    ) -> np.ndarray:
        assert num_sds == OPTIMISM
        seen.update(compared=schedules, running=others)
        return np.array([0.0, -1.0, *[0.0] * (len(schedules) - 2)])

    monkeypatch.setattr(Surrogate, "lower_bounds", prefer_the_second)
    proposed = propose(study)
    assert seen["running"] == [ExitSchedule((9,) * 10)]
    assert 2 <= len(seen["compared"]) <= NUM_DRAWS + 1
    assert len(set(seen["compared"])) == len(seen["compared"])
    assert proposed == seen["compared"][1].depths
    limit = sampler.blocks(WARM_STARTS["D7-DiT"])
    for schedule in seen["compared"]:
        assert limit - sampler.width_blocks <= sampler.blocks(schedule.depths) <= BELOW * limit


@pytest.mark.parametrize("behind", list(WARM_STARTS))
def test_the_warm_start_that_is_beaten_least_comes_next(behind: str) -> None:
    study, sampler = new_study()
    for name, depths in WARM_STARTS.items():
        below = (
            (9, 9, 9, 9, 8, 8, 7, 7, 6, 5) if name == "D2-DiT" else (9, 9, 9, 8, 6, 5, 4, 3, 3, 3)
        )
        assert sampler.blocks(below) <= 0.99 * sampler.blocks(depths)
        gain = 0.001 if name == behind else 0.2
        add(study, below, fid_of(depths) * np.exp(-gain), None)
    propose(study)  # the third is for the whole trade-off
    blocks = sampler.blocks(propose(study))
    limit = sampler.blocks(WARM_STARTS[behind])
    assert limit - sampler.width_blocks <= blocks <= BELOW * limit


def test_a_warm_start_that_was_never_tried_comes_before_one_that_is_behind() -> None:
    study, sampler = new_study()
    below = (9, 9, 9, 9, 8, 8, 7, 7, 6, 5)
    add(study, below, 1.5 * fid_of(WARM_STARTS["D2-DiT"]), None)  # worse than D2, dearer than D7
    blocks = sampler.blocks(propose(study))
    assert blocks <= BELOW * sampler.blocks(WARM_STARTS["D7-DiT"])


def test_the_margin_is_one_of_latency_and_not_of_blocks_alone() -> None:
    """In a U-ViT the encoder always runs, so a percent of latency is several blocks."""

    def highest(fixed_blocks: float) -> int:
        study, _ = new_study()
        sampler = AdditiveSampler(SPACE, 0, WEIGHTS, fixed_blocks=fixed_blocks)
        study.sampler = sampler
        limit = sampler.blocks(WARM_STARTS["D7-DiT"])
        found = [sampler.blocks(propose(study)) for _ in range(8)]
        return max(blocks for blocks in found if blocks < limit)

    assert 113 < highest(0.0) <= 117  # of 119
    assert highest(400.0) <= 113


def test_after_some_proposals_a_stratum_keeps_half_of_the_margin() -> None:
    study, sampler = new_study()
    limit = sampler.blocks(WARM_STARTS["D7-DiT"])

    def highest() -> int:
        strata = strata_below_warm_starts(
            study.trials,
            WEIGHTS,
            reachable=(sampler.shallowest, sampler.deepest),
            width=10,
            margin=lambda blocks: 4.0,
        )
        return max(stratum.high for stratum in strata if stratum.high < limit)

    below = [(9, 9, 9, 8, 6, 5, 4, 3, 3, last) for last in (3, 2)]
    below += [(9, 9, 8, 8, 6, 5, 4, 3, 3, 3), (9, 9, 9, 8, 6, 5, 3, 3, 3, 3)]
    assert len(below) == SURE_TRIES
    for depths in below:
        assert limit - 14 <= sampler.blocks(depths) < limit
        assert highest() == limit - 4
        add(study, depths, fid_of(depths), None)
    assert highest() == limit - 2


def test_a_warm_start_that_nothing_undercuts_has_no_stratum() -> None:
    study, sampler = new_study()
    add(study, (2,) * 10, fid_of((2,) * 10), "shallowest")
    strata = strata_below_warm_starts(
        study.trials,
        WEIGHTS,
        reachable=(sampler.shallowest, sampler.deepest),
        width=5,
        margin=lambda blocks: 0.01 * blocks,
    )
    highest = sorted(int(0.99 * sampler.blocks(depths)) for depths in WARM_STARTS.values())
    assert sorted(stratum.high for stratum in strata) == highest


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
    study, sampler = new_study()
    running = []
    for _ in range(6):
        trial = study.ask()
        schedule = SPACE.suggest(trial)
        trial.set_user_attr("depths", list(schedule.depths))
        running.append(schedule)
    assert len(set(running)) == 6
    assert len({sampler.blocks(s.depths) for s in running[1::2]}) > 1


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
