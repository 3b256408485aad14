"""The default proposer: its model of FID, and where it proposes."""

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution

from schedsearch.schedule import ExitSchedule
from schedsearch.search.additive import AdditiveModel, AdditiveSampler
from schedsearch.search.samplers import build_sampler
from schedsearch.space import SearchSpace

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


def features_of(schedules: list[ExitSchedule]) -> np.ndarray:
    return ((10 - np.array([s.depths for s in schedules])) / 8) ** 2


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


def new_study(seed: int = 0) -> tuple[optuna.Study, AdditiveSampler]:
    study = optuna.create_study(directions=["minimize"] * 2)
    sampler = build_sampler("additive", SPACE, seed, WEIGHTS)
    assert isinstance(sampler, AdditiveSampler)
    study.sampler = sampler
    add(study, (10,) * 10, fid_of((10,) * 10), "full")
    for name, depths in WARM_STARTS.items():
        add(study, depths, fid_of(depths), name)
    return study, sampler


def propose(study: optuna.Study) -> tuple[int, ...]:
    trial = study.ask()
    depths = SPACE.suggest(trial).depths
    trial.set_user_attr("depths", list(depths))
    study.tell(trial, (fid_of(depths), 1.0))
    return depths


def test_the_model_finds_the_weights_that_made_the_fids() -> None:
    rng = np.random.default_rng(0)
    schedules = [SPACE.sample(rng) for _ in range(60)]
    log_fids = np.log([fid_of(s.depths) for s in schedules])
    model = AdditiveModel.fit(features_of(schedules), log_fids)
    assert model.mean[0] == pytest.approx(-1.0, abs=0.05)
    np.testing.assert_allclose(model.mean[1:], COSTS, atol=0.05)
    few = AdditiveModel.fit(features_of(schedules[:5]), log_fids[:5])
    assert np.trace(few.cov) > 5 * np.trace(model.cov)  # it knows what it does not know


def test_proposals_stay_just_below_a_warm_start_and_are_new() -> None:
    study, sampler = new_study()
    proposals = [propose(study) for _ in range(6)]
    assert len(set(proposals)) == 6
    anchors = [sampler.blocks(depths) for depths in WARM_STARTS.values()]
    covering = 0
    for depths in proposals:
        blocks = sampler.blocks(depths)
        gaps = [anchor - blocks for anchor in anchors if blocks <= 0.99 * anchor]
        covering += not gaps or min(gaps) > sampler.width_blocks
    assert covering <= 1


def test_a_search_beats_the_warm_starts_of_an_additive_truth() -> None:
    study, sampler = new_study()
    proposals = [propose(study) for _ in range(12)]
    for depths in WARM_STARTS.values():
        limit = sampler.blocks(depths)
        best = min(fid_of(p) for p in proposals if sampler.blocks(p) < limit)
        assert best < fid_of(depths)


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
    blocks = sampler.blocks(propose(study))
    limit = sampler.blocks(WARM_STARTS[behind])
    assert limit - sampler.width_blocks <= blocks <= 0.99 * limit


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
