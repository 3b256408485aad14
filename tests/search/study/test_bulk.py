"""Many trials in one transaction."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from schedsearch.runs.folder import RunFolder
from schedsearch.search.study import bulk
from schedsearch.search.study.bulk import add_trials
from schedsearch.search.study.storage import open_storage, open_study


def trial_of(number: int) -> FrozenTrial:
    bounds = IntDistribution(1, 9)
    if number % 4 == 3:
        return optuna.create_trial(state=OptunaState.FAIL, user_attrs={"interrupted": True})
    return optuna.create_trial(
        values=[number + 0.5, 2.0 * number],
        params={"depth_0": 1 + number % 9, "depth_1": 1},
        distributions={"depth_0": bounds, "depth_1": bounds},
        user_attrs={"depths": [number, 1], "label": "D2"},
        system_attrs={"note": number},
    )


def told(study: optuna.Study) -> list[tuple[object, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs)
        for t in study.get_trials()
    ]


@pytest.mark.parametrize("url", ["own", "shared"])
def test_it_equals_what_optuna_does(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)
    folder = RunFolder(tmp_path)
    place = None if url == "own" else f"sqlite:///{tmp_path / 'shared.db'}"
    storage = open_storage(folder, place)
    for name in ("other", "slow", "fast"):
        open_study(storage, name).add_trial(trial_of(0))
    trials = [trial_of(number) for number in range(1, 9)]
    slow, fast = open_study(storage, "slow"), open_study(storage, "fast")
    slow.add_trials(trials)
    counts: list[int] = []
    add_trials(fast, trials, counts.append)
    assert told(fast) == told(slow)
    assert counts == [3, 6, 8]
    assert len(open_study(storage, "other").trials) == 1
    assert fast.ask().number == 9


def test_an_error_leaves_the_study_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)
    study = open_study(open_storage(RunFolder(tmp_path), None), "x")

    def stop(count: int) -> None:
        if count > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_trials(study, [trial_of(number) for number in range(8)], stop)
    assert study.trials == []
