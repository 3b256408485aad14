"""What a run will take, by its latency table: shown before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.evaluation.latency_rounds import RUNS_PER_ROUND
from schedsearch.hand_made import FULL
from schedsearch.search.chosen import FRONT_SHARE
from schedsearch.statistics.rivals import SPARES

if TYPE_CHECKING:
    from schedsearch.search.preflight import Preflight


class Estimates:
    """Rough seconds of the stages of a run.

    Args:
        ready: The study, with its latency table.
    """

    def __init__(self, ready: Preflight) -> None:
        self._ready = ready
        self._settings = ready.settings
        self._num_presets = sum(warm.label != FULL for warm in ready.warm_starts)

    def trial_seconds(self) -> float:
        """One trial at full depth, a training step for three passes."""
        recipe, evaluation = self._settings.recipe, self._settings.evaluation
        training = 3 * recipe.num_steps * recipe.batch_size
        sampling = evaluation.num_samples * self._ready.table.num_calls
        return self._seconds_per_image() * (training + sampling) * evaluation.seeds_per_trial

    def profile_seconds(self) -> float:
        """The shared fine-tune and the error table, on one worker."""
        profile, space = self._settings.profile, self._settings.space
        if profile is None:
            return 0.0
        training = 3 * profile.num_steps * self._settings.recipe.batch_size
        cells = space.num_intervals * (space.max_depth - space.min_depth + 1)
        return self._seconds_per_image() * (training + cells * profile.num_images)

    def control_seconds(self) -> float:
        """The images that correct the FIDs of trials, on one worker."""
        evaluation = self._settings.evaluation
        images = len(evaluation.control_seeds_used) * evaluation.num_samples
        return self._seconds_per_image() * images * self._ready.table.num_calls

    def confirmation_seconds(self) -> float:
        """Runoff, continued fine-tunes, confirmation and fine-tunes anew, on one worker."""
        evaluation, table = self._settings.evaluation, self._ready.table
        if not evaluation.confirm_seeds:
            return 0.0
        chosen = self._at_most(2 * self._num_presets + 1 + FRONT_SHARE)
        run_off = self._at_most(evaluation.runoff_size * self._num_presets)
        pairs = self._at_most(2 * self._num_presets)
        anew = pairs * evaluation.confirm_training_seeds
        run_off_anew = run_off * evaluation.runoff_training_seeds
        measured = (chosen + anew) * evaluation.confirm_seeds
        measured += (run_off_anew or run_off) * evaluation.runoff_seeds
        num_samples = evaluation.confirm_samples or evaluation.num_samples
        steps = (chosen + anew) * evaluation.confirm_steps
        steps += (anew + run_off_anew) * self._settings.recipe.num_steps
        training = 3 * steps * self._settings.recipe.batch_size
        return self._seconds_per_image() * (training + measured * num_samples * table.num_calls)

    def final_latency_seconds(self) -> float:
        """The latencies of the front, the presets and their contenders, by the driver alone."""
        evaluation = self._settings.evaluation
        likely = evaluation.runoff_size + (SPARES if evaluation.runoff_seeds else 0)
        chosen = self._at_most((1 + likely) * self._num_presets + 1 + 2 * FRONT_SHARE)
        runs = RUNS_PER_ROUND * evaluation.latency_repeats
        return chosen * runs * self._ready.latency.full_ms / 1000.0

    def _at_most(self, wanted: int) -> int:
        return min(wanted, self._settings.search.n_trials)

    def _seconds_per_image(self) -> float:
        """One network call at full depth, for one image."""
        table = self._ready.table
        call = table.a_ms + table.b_ms * self._ready.bench.backbone.num_exit_blocks
        return call / table.protocol.batch / 1000.0
