"""Attempts at a schedule: how many, what the next one changes, and what it continues from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from schedsearch.records import TrialRecord, TrialState
from schedsearch.runs.folder import STATE_FILE
from schedsearch.search.study.reconcile import kept_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.study.known import Key
    from schedsearch.search.study.proposals import Proposals
    from schedsearch.settings import StudySettings
    from schedsearch.workers.jobs import Failed, TrialJob


class Attempts:
    """Counts retries of a driver, prepares the next attempt, and records the last.

    Args:
        settings: The resolved search space.
        folder: The run folder.
        proposals: Knows the trials of the study.
    """

    def __init__(self, settings: StudySettings, folder: RunFolder, proposals: Proposals) -> None:
        self._settings = settings
        self._folder = folder
        self._proposals = proposals
        self._retries: Counter[Key] = Counter()

    def use_retry(self, key: Key) -> bool:
        """Use one of a schedule's retries; return whether one was left."""
        if self._retries[key] >= self._settings.search.max_retries:
            return False
        self._retries[key] += 1
        return True

    def next_attributes(
        self, job: TrialJob, failure: Failed, attributes: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """Attributes of the next attempt, and why this one ended.

        Where memory ran out, the next attempt works on half as many images at a time.
        """
        kept, reason = kept_attributes(attributes), failure.reason
        if failure.out_of_memory:
            recipe = self._settings.recipe
            parts = 2 * (job.accumulate or recipe.accumulate)
            kept["accumulate"] = min(parts, recipe.batch_size)
            reason = f"{reason}; batches are cut into {kept['accumulate']} parts"
        return kept, reason

    def saved_state(self, number: int | None) -> int | None:
        """The newest attempt at a schedule that left a state to continue from.

        An attempt that died while it loaded left none, but the one before it may have.

        Args:
            number: The attempt before; None where there was none.
        """
        if number is None:
            return None
        retry_of = {t.number: t.user_attrs.get("retry_of") for t in self._proposals.trials()}
        while number is not None and not self._left_work(number):
            number = retry_of[number]
        return number

    def _left_work(self, number: int) -> bool:
        """Whether a trial left a saved state or fine-tuned weights."""
        state = self._folder.trial(number) / STATE_FILE
        return state.is_file() or self._folder.weights(number).is_file()

    def failed_record(self, job: TrialJob, failure: Failed, key: Key) -> TrialRecord:
        """The record of a schedule after its last attempt."""
        attempts = self._retries[key] + 1
        gave_up = f"; gave up after {attempts} attempts" if attempts > 1 else ""
        return TrialRecord(
            number=job.number,
            depths=job.schedule.depths,
            edges=job.schedule.edges,
            label=job.label,
            origin=job.origin,
            state=TrialState.FAILED,
            stage=failure.stage,
            reason=f"{failure.reason}{gave_up}",
            started=failure.started,
            seconds=failure.seconds,
            worker=failure.worker,
        )
