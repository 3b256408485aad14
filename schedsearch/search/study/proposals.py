"""Asks the Optuna study for schedules that are new: warm starts and retries, then proposals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.study.reconcile import depths_of

if TYPE_CHECKING:
    from schedsearch.schedules.space import SearchSpace
    from schedsearch.search.study.known import DistinctSchedules, FinishedTrials, Key
    from schedsearch.search.study.warm_starts import WarmStart

MAX_DUPLICATES = 10
"""Known proposals in a row before a new schedule is picked without asking."""

DP_SEED = "dp"
"""Origin of the schedules that are optimal by the error table."""


class Proposals:
    """The asking half of a run's study; results are told elsewhere.

    Args:
        study: The Optuna study, with its sampler.
        space: The space of schedules.
        distinct: Tells schedules apart.
        finished: What is known; grows while the run goes on.
        seed: Of the schedules that are picked without asking.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        distinct: DistinctSchedules,
        finished: FinishedTrials,
        *,
        seed: int,
    ) -> None:
        self._study = study
        self._space = space
        self._distinct = distinct
        self._finished = finished
        self._seed = seed

    def trials(self, *states: OptunaState) -> list[FrozenTrial]:
        """Trials of the study in some states, or in any; to be read only."""
        return self._study.get_trials(deepcopy=False, states=states or None)

    def use_sampler(self, sampler: optuna.samplers.BaseSampler) -> None:
        """Take proposals from a sampler; the first one may need what another stage measured."""
        self._study.sampler = sampler

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, schedule: ExitSchedule, **user_attrs: Any) -> None:
        """Let a schedule be the next, after those that wait already."""
        attrs = {"depths": list(schedule.depths), **user_attrs}
        self._study.enqueue_trial(self._space.to_params(schedule), user_attrs=attrs)

    def enqueue_first(
        self, warm_starts: Sequence[WarmStart], seeds: Iterable[ExitSchedule]
    ) -> None:
        """Enqueue what is measured before any proposal, unless it is done or waits already.

        Args:
            warm_starts: Schedules with names.
            seeds: Schedules that the error table favours; they run after the warm starts and
                count as searched.
        """
        waiting = {
            self._distinct.key(self._space.schedule(depths))
            for trial in self.trials(OptunaState.WAITING)
            if (depths := depths_of(trial, self._space)) is not None
        }
        firsts = [(warm.schedule, {"label": warm.label}) for warm in warm_starts]
        firsts += [(schedule, {"origin": DP_SEED}) for schedule in seeds]
        for schedule, attrs in firsts:
            key = self._distinct.key(schedule)
            if self._finished.result_of(key) is None and key not in waiting:
                self.enqueue(schedule, **attrs)
                waiting.add(key)

    # ---- ask ------------------------------------------------------------------------------

    def ask(self, running: Set[Key]) -> optuna.Trial | None:
        """Ask until a schedule is new; duplicates are answered at no cost.

        Args:
            running: Schedules that are measured now.

        Returns:
            A running trial whose attribute ``depths`` is its schedule; None when none is left.
        """
        ended, duplicates = self._finished.keys(), 0
        while self._has_new(running) or self.trials(OptunaState.WAITING):
            trial = self._study.ask()
            queued = "depths" in trial.user_attrs  # warm starts and retries carry theirs
            schedule = self._space.suggest(trial)
            trial.set_user_attr("depths", list(schedule.depths))
            key = self._distinct.key(schedule)
            done = self._finished.result_of(key) is not None
            is_new = key not in ended and key not in running
            if is_new or (queued and key not in running and not done):
                return trial
            self._answer_duplicate(trial, key)
            duplicates += 1
            if duplicates % MAX_DUPLICATES == 0 and self._has_new(running):
                rng = np.random.default_rng([self._seed, len(self.trials())])
                self.enqueue(self._distinct.pick_unknown(ended | running, rng))
        return None

    def _has_new(self, running: Set[Key]) -> bool:
        """Whether any schedule is neither complete nor failed nor running."""
        ended, size = self._finished.keys(), self._distinct.size()
        # NOTE: The union takes long where much runs, and is only needed near the end of a space.
        return len(ended) + len(running) < size or len(ended | running) < size

    def _answer_duplicate(self, trial: optuna.Trial, key: Key) -> None:
        known = self._finished.result_of(key)
        if known is not None and known.evaluation is not None:
            trial.set_user_attr("duplicate_of", known.number)
            self._study.tell(trial, known.evaluation.values)
        else:  # running or failed: nothing to tell yet
            self._study.tell(trial, state=OptunaState.PRUNED)
