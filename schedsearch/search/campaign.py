"""A whole run: preflight, trials, measured latencies, confirmation, front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.atomic import write_text
from schedsearch.config import differing_keys, dump_settings, settings_from_text
from schedsearch.exceptions import ConfigError, ExitCode, StorageError
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.search.confirmation import Confirmation
from schedsearch.search.dashboard_notes import TrialPublisher
from schedsearch.search.front_files import write_front
from schedsearch.search.journal import Journal
from schedsearch.search.latency_stage import deviations, measure_finally
from schedsearch.search.logs import logging_to
from schedsearch.search.preflight import Preflight, check_before_start
from schedsearch.search.results import RunResults
from schedsearch.search.samplers import build_sampler
from schedsearch.search.storage import (
    explaining_failures,
    open_artifacts,
    open_storage,
    open_study,
)
from schedsearch.search.study import ScheduleStudy

if TYPE_CHECKING:
    from schedsearch.search.jobs import Observer, Runner
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.settings import StudySettings

MAY_CHANGE = ("search.n_trials", "resources")
"""Keys that may differ when a run is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended."""

    results: RunResults
    num_failed: int
    exhausted: bool
    """Whether the space held no more schedules to try."""

    @property
    def exit_code(self) -> ExitCode:
        """What the command line returns."""
        if not self.results.entries:
            return ExitCode.NO_RESULT
        return ExitCode.SOME_FAILED if self.num_failed else ExitCode.DONE


PlotFront = Callable[[RunResults, Path], None]
"""Draws the front; given by the command line, since pictures belong to ``report``."""


def run_search(
    settings: StudySettings,
    folder: RunFolder,
    observer: Observer,
    *,
    address: str | None = None,
    plot_front: PlotFront | None = None,
) -> RunOutcome:
    """Run a search, or resume one to ``search.n_trials``.

    Args:
        settings: The search space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.
        address: A Ray cluster to join.
        plot_front: Draws ``front.png``.

    Raises:
        ConfigError: If the folder belongs to another search space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
        KeyboardInterrupt: If the user stops the run; the same command resumes it.
    """
    refuse_other_space(settings, folder)
    folder.create()
    with folder.locked(), logging_to(folder.log_file):
        folder.remove_leftovers()
        observer.stage("checking, and measuring the latency table")
        if not folder.space_file.exists():  # what a start that failed its checks left behind
            folder.latency_file.unlink(missing_ok=True)
        ready = check_before_start(settings, folder)
        # From here on the folder belongs to this space; a mistake found above can be put right.
        write_text(folder.space_file, dump_settings(settings))
        runner = _build_runner(ready, folder, address)
        with explaining_failures(settings.name):
            campaign = _Campaign(ready, folder, observer, plot_front)
            campaign.study.prepare()
            if campaign.has_work():
                with runner:
                    campaign.run(runner)
                campaign.publish()
        return RunOutcome(
            results=campaign.results(),
            num_failed=campaign.study.num_failed,
            exhausted=campaign.study.exhausted,
        )


class _Campaign:
    """The stages of a run over what they share."""

    def __init__(
        self,
        ready: Preflight,
        folder: RunFolder,
        observer: Observer,
        plot_front: PlotFront | None,
    ) -> None:
        settings = ready.settings
        self.ready, self.folder, self.observer = ready, folder, observer
        self._plot_front = plot_front
        self._confirmations = Journal(folder.confirmation_file, ConfirmRecord.from_json)
        self._latency = ready.latency
        storage = open_storage(folder, settings.search.storage)
        study = open_study(storage, settings.name)
        study.sampler = build_sampler(
            settings.search.sampler,
            settings.space.build(),
            settings.search.seed,
            ready.visits,
            fixed_blocks=ready.fixed_blocks,
            num_asked=len(study.get_trials(deepcopy=False)),
        )
        self._publisher = TrialPublisher(study, open_artifacts(folder), folder)
        self.study = ScheduleStudy(
            study,
            settings=settings,
            settings_text=ready.settings_text,
            folder=folder,
            journal=Journal(folder.results_file, TrialRecord.from_json),
            warm_starts=ready.warm_starts,
            times=ready.bench.solver.times,
            predict_ms=ready.predict_ms,
            publisher=self._publisher,
            observer=observer,
            on_result=self.write_front,
        )

    def results(self) -> RunResults:
        """Everything measured so far."""
        return RunResults(
            self.ready.settings,
            self.study.records,
            self._latency,
            self._confirmations.read(),
        )

    def has_work(self) -> bool:
        """Whether anything is left to do; a finished run is only shown again."""
        measured = self._latency.measured_after == len(self.results().entries)
        return self.study.wants_jobs or not measured or self._confirmation().num_jobs > 0

    def run(self, runner: Runner) -> None:
        """All stages; the front is written also when one of them is interrupted."""
        try:
            self._run_trials(runner)
            if self.results().entries:
                self._measure()
                self._confirm(runner)
        finally:
            self.write_front()

    def _run_trials(self, runner: Runner) -> None:
        """Fine-tune and measure schedules until there are enough."""
        self.observer.stage("searching", total=self.ready.settings.search.n_trials)
        self.observer.resumed(self.study.records)
        runner.run(self.study)
        if self.study.wants_jobs and not self.study.exhausted:
            self.observer.warning(
                "stopped before search.n_trials: as many schedules failed as were wanted. Mend "
                "the cause (see log.txt under trials/) and run the same command again"
            )

    def _measure(self) -> None:
        """Measure the latencies that the front will show, with all workers idle."""
        if self._latency.measured_after == len(self.results().entries):
            return  # a new measurement could change the rivals, and start a new confirmation
        self.observer.stage("measuring the front's latency, workers idle")
        self._latency = measure_finally(
            self.ready.bench, self._latency, self.results(), self.folder
        )
        mean, lines = deviations(self.results())
        self.observer.message(f"predicted against measured latency: {mean:.1%} off on average")
        for line in lines:
            self.observer.message(f"beyond the spread: {line}")

    def _confirmation(self) -> Confirmation:
        return Confirmation(
            self.results,
            settings_text=self.ready.settings_text,
            folder=self.folder,
            journal=self._confirmations,
            observer=self.observer,
        )

    def _confirm(self, runner: Runner) -> None:
        """Measure presets and their rivals with fresh seeds."""
        confirmation = self._confirmation()
        if confirmation.num_jobs:
            confirmation.announce()
            runner.run(confirmation)

    def write_front(self) -> None:
        """Replace ``front.yaml`` and ``front.csv``."""
        write_front(self.results().front(), self.folder)

    def publish(self) -> None:
        """Draw the front and show the study in the dashboard."""
        results = self.results()
        pictures = []
        if self._plot_front is not None and results.entries:
            self._plot_front(results, self.folder.front_png)
            pictures.append(self.folder.front_png)
        attributes = {
            "num_schedules": self.ready.settings.space.build().size(),
            "hypervolume": results.hypervolume(),
            "latency_table": dict(self._latency.table),
            "front": [entry.trial for entry in results.front()],
        }
        self._publisher.publish_study(_study_note(results), attributes, pictures)


def _study_note(results: RunResults) -> str:
    rows = [
        f"| {e.title} | {' '.join(map(str, e.depths))} | {e.fid:.3f} | {e.latency_ms:.1f} | "
        f"{e.acceleration:.1%} |"
        for e in results.front()
    ]
    if not rows:
        return "No trial is complete."
    head = results.front()[0]
    return "\n".join(
        [
            f"## Pareto front of {results.settings.name}",
            "",
            f"| schedule | blocks, data to noise | FID ({head.features}, n={head.num_samples}) | "
            "latency, ms per batch | saved |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def refuse_other_space(settings: StudySettings, folder: RunFolder) -> None:
    """A run folder belongs to one search space.

    Raises:
        ConfigError: With the keys that differ.
    """
    if not folder.space_file.is_file():
        if folder.results_file.exists():
            raise StorageError(
                f"{folder.root} holds results but no space.yaml, so nothing says what they mean. "
                "Restore the file, or choose another folder with --output."
            )
        return
    stored = settings_from_text(folder.space_file.read_text(encoding="utf-8"))
    if differing := differing_keys(stored, settings, ignoring=MAY_CHANGE):
        raise ConfigError(
            f"{folder.root} was started with another search space; these keys differ: "
            f"{', '.join(differing)}. Restore them, or choose another folder with --output. "
            f"Only {' and '.join(MAY_CHANGE)} may change."
        )


def _build_runner(ready: Preflight, folder: RunFolder, address: str | None) -> Runner:
    settings = ready.settings
    if settings.resources.backend == "local":
        if address is not None:
            raise ConfigError("--address needs resources.backend: ray, but it is local.")
        import torch

        from schedsearch.search.local import LocalRunner

        return LocalRunner(
            settings.resources,
            num_gpus=torch.cuda.device_count(),
            timeout=settings.search.trial_timeout,
        )
    try:
        from schedsearch.search.ray_tune import RayRunner
    except ImportError as error:
        raise ConfigError(
            f"resources.backend is ray, but Ray cannot be imported: {error}. Install ray[tune], "
            "or set resources.backend to local."
        ) from error
    return RayRunner(
        settings.resources,
        folder=folder.ray,
        log_file=folder.log_file,
        address=address,
        timeout=settings.search.trial_timeout,
    )
