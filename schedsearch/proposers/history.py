"""What a proposer knows of a study's trials, read once per trial."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

Key = tuple[int, ...]
"""The visited depths of a schedule; equal keys give equal samples."""


class History:
    """Schedules of a study: asked, running and measured.

    A trial that has finished never changes, so only the others are read again.

    Args:
        space: The space of schedules.
        weights: Network calls of the solver per interval, from data to noise.
    """

    def __init__(self, space: SearchSpace, weights: Sequence[int]) -> None:
        self._space = space
        self._visited = [i for i, weight in enumerate(weights) if weight]
        self._num_read = 0
        self._open: dict[int, ExitSchedule | None] = {}
        self._measured: dict[ExitSchedule, tuple[int, float]] = {}
        self.taken: set[Key] = set()
        """Keys of all schedules that were asked for."""
        self.num_drawn = 0
        """Trials that the sampler proposed, without enqueued ones."""

    def key(self, schedule: ExitSchedule) -> Key:
        """Return the visited depths of a schedule."""
        return tuple(schedule.depths[i] for i in self._visited)

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Read what is new.

        Args:
            trials: All trials of the study, by number.
        """
        changed = [
            number
            for number, schedule in self._open.items()
            if schedule is None or trials[number].state.is_finished()
        ]
        for number in [*changed, *range(self._num_read, len(trials))]:
            self._read_one(trials[number])
        self._num_read = len(trials)

    def _read_one(self, trial: FrozenTrial) -> None:
        number = trial.number
        if number >= self._num_read:
            self.num_drawn += "fixed_params" not in trial.system_attrs
        schedule = self._open.pop(number, None)
        if schedule is None and (depths := trial.user_attrs.get("depths")) is not None:
            schedule = self._space.schedule(depths)
            self.taken.add(self.key(schedule))
        if not trial.state.is_finished():
            self._open[number] = schedule
        elif schedule is not None and trial.state is TrialState.COMPLETE and trial.values[0] > 0:
            result = number, float(trial.values[0])  # the logarithm needs > 0
            self._measured[schedule] = min(result, self._measured.get(schedule, result))

    @property
    def running(self) -> list[ExitSchedule]:
        """Different schedules that are measured now or wait, by trial number."""
        opened = sorted(self._open.items())
        return list(dict.fromkeys(schedule for _, schedule in opened if schedule is not None))

    @property
    def num_measured(self) -> int:
        """Number of different schedules with a FID."""
        return len(self._measured)

    def measured(self) -> dict[ExitSchedule, float]:
        """Return the FIDs of different schedules, by trial number."""
        results = sorted((number, fid, s) for s, (number, fid) in self._measured.items())
        return {schedule: fid for _, fid, schedule in results}
