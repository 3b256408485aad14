"""Measures presets, their opponents and part of the front again with held-out seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.records import ConfirmRecord
from schedsearch.runs.folder import STATE_FILE
from schedsearch.search.stages.queue import JobQueue
from schedsearch.workers.jobs import ConfirmJob, Done, Job, RetrainJob

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.journal import Journal
    from schedsearch.runs.results import RunResults
    from schedsearch.search.runners.contracts import Observer

FRONT_SHARE = 2
"""Schedules of the front that are confirmed beside the presets and their opponents."""


class Confirmation(JobQueue):
    """Hands out the measurements that are left.

    Args:
        jobs: What :func:`confirmation_jobs` found.
        folder: The run folder.
        journal: Where measurements are recorded.
        max_retries: New attempts for a job whose worker died.
        observer: Is told what happens.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        folder: RunFolder,
        journal: Journal[ConfirmRecord],
        max_retries: int,
        observer: Observer,
    ) -> None:
        retrains = any(isinstance(job, RetrainJob) for job in jobs)
        title = "confirming with held-out seeds" + ", and retraining" * retrains
        super().__init__(title, jobs, max_retries=max_retries, observer=observer)
        self._folder = folder
        self._journal = journal

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        if isinstance(job, RetrainJob):
            return f"Retraining of trial {job.number} with training seed {job.training_seed}"
        assert isinstance(job, ConfirmJob)
        return f"Confirmation of trial {job.number} with seed {job.seed}"

    def keep(self, job: Job, outcome: Done) -> None:
        """Record what was measured; retrained weights are of no more use then."""
        assert isinstance(outcome.result, tuple)
        for record in outcome.result:
            assert isinstance(record, ConfirmRecord)
            self._journal.append(record)
        if isinstance(job, RetrainJob):
            _drop_weights(self._folder, job.number, job.training_seed)


def confirmation_jobs(results: RunResults, settings_text: str, folder: RunFolder) -> list[Job]:
    """All measurements that a run still lacks, by what was recorded.

    Seeds go round-robin over the schedules, so that an interrupted confirmation still has pairs.

    Args:
        results: What was measured so far.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
    """
    settings = results.settings
    evaluation = settings.evaluation
    num_samples = evaluation.confirm_samples_used
    common = {"settings": settings_text, "run_dir": str(folder.root)}
    done = {
        (record.number, record.training_seed, record.seed)
        for record in (*results.confirmations, *results.retrained)
    }
    jobs: list[Job] = [
        ConfirmJob(
            **common,
            number=entry.trial,
            schedule=entry.schedule,
            seed=seed,
            num_samples=num_samples,
        )
        for seed in evaluation.confirm_seeds_used
        for entry in entries_to_confirm(results)
        if (entry.trial, None, seed) not in done
    ]
    for index, training_seed in enumerate(settings.confirm_training_seeds_used):
        for entry in entries_to_retrain(results):
            seeds = evaluation.retrain_seeds_used(index)
            missing = tuple(s for s in seeds if (entry.trial, training_seed, s) not in done)
            if missing:
                job = RetrainJob(
                    **common,
                    number=entry.trial,
                    schedule=entry.schedule,
                    training_seed=training_seed,
                    seeds=missing,
                    num_samples=num_samples,
                )
                jobs.append(job)
    return jobs


def drop_recorded_weights(results: RunResults, jobs: Sequence[Job], folder: RunFolder) -> None:
    """Remove retrained weights that a driver left when it died after their last result.

    Args:
        results: What was measured so far.
        jobs: What is still to be measured; its weights stay.
        folder: The run folder.
    """
    left = {(j.number, j.training_seed) for j in jobs if isinstance(j, RetrainJob)}
    for number, training_seed in {(r.number, r.training_seed) for r in results.retrained} - left:
        assert training_seed is not None
        _drop_weights(folder, number, training_seed)


def _drop_weights(folder: RunFolder, number: int, training_seed: int) -> None:
    """Remove retrained weights, and the state of an attempt that died after they were kept."""
    weights = folder.retrained_weights(number, training_seed)
    weights.unlink(missing_ok=True)
    weights.with_name(STATE_FILE).unlink(missing_ok=True)


def entries_to_confirm(results: RunResults) -> list[FrontEntry]:
    """Full depth, every preset, their opponents, and some of the front."""
    full, presets = results.full(), results.hand_made()
    chosen = [full] if full is not None else []
    chosen += presets
    chosen += [e for preset in presets if (e := results.opponent_of(preset)) is not None]
    chosen += spread_over_latency(results.front(), FRONT_SHARE)
    return list({entry.trial: entry for entry in chosen}.values())


def entries_to_retrain(results: RunResults) -> list[FrontEntry]:
    """Every preset that has an opponent, and the opponents."""
    pairs = [(preset, results.opponent_of(preset)) for preset in results.hand_made()]
    met = [(preset, found) for preset, found in pairs if found is not None]
    chosen = [preset for preset, _ in met] + [found for _, found in met]
    return list({entry.trial: entry for entry in chosen}.values())


def spread_over_latency(front: Sequence[FrontEntry], count: int) -> list[FrontEntry]:
    """A few schedules of a front: the best FID per equal range of latency."""
    if not front:
        return []
    low = min(entry.latency_ms for entry in front)
    width = (max(entry.latency_ms for entry in front) - low) / count
    best: dict[int, FrontEntry] = {}
    for entry in front:
        place = min(count - 1, int((entry.latency_ms - low) / width)) if width else 0
        if place not in best or entry.fid < best[place].fid:
            best[place] = entry
    return [best[place] for place in sorted(best)]
