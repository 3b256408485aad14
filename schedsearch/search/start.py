"""The first minute of every start in a run folder, whatever follows in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.config import differing_keys, dump_settings, settings_from_text
from schedsearch.config.warm_starts import twin_row
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs import costs as stages
from schedsearch.runs.costs import Costs
from schedsearch.search.meter import Meter
from schedsearch.search.preflight import Preflight, check_before_start
from schedsearch.search.runners.logs import logging_to

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings

MAY_CHANGE = ("search.n_trials", "search.budget", "resources", "plan", "rivals")
"""Keys that may differ when a run is resumed."""


@contextlib.contextmanager
def opened_run(
    settings: StudySettings, folder: RunFolder, observer: Observer, *, with_twins: bool = True
) -> Iterator[tuple[Preflight, Meter]]:
    """Lock a run folder, run all checks, and bind the folder to the space.

    Args:
        settings: The search space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.
        with_twins: Whether the warm starts hold static twins, or leave them out.

    Yields:
        What the checks made, and the meter of this start's costs.

    Raises:
        ConfigError: If the folder belongs to another search space, or a check fails.
        StorageError: If another driver is at work, or the disk fails.
    """
    refuse_other_space(settings, folder)
    folder.create()
    began = time.monotonic()
    with folder.locked(), logging_to(folder.log_file):
        folder.remove_leftovers()
        observer.stage("checking weights and data, measuring the latency table")
        if not folder.space_file.exists():  # what a start that failed its checks left behind
            folder.latency_file.unlink(missing_ok=True)
        ready = check_before_start(settings, folder, with_twins=with_twins)
        if ready.rank_deficient:
            evaluation = settings.evaluation
            observer.warning(
                f"evaluation.num_samples is {evaluation.num_samples}, and {evaluation.features} "
                f"has {ready.bench.extractor.dim} features: the covariance behind FID lacks rank, "
                "so FIDs rank schedules worse than KID does. Take more samples than features"
            )
        # From here on the folder belongs to this space; a mistake found above can be mended.
        folder.write(folder.space_file, dump_settings(settings))
        meter = Meter(folder, settings, Costs.load(folder), began=began)
        meter.add_driver_work(stages.CHECKS, time.monotonic() - began)
        yield ready, meter


def refuse_other_space(settings: StudySettings, folder: RunFolder) -> None:
    """A run folder belongs to one search space.

    Until the first trial ends, static twins may join the warm starts, or leave them.

    Raises:
        ConfigError: With the keys that differ.
        StorageError: If there are results of an unknown space.
    """
    if not folder.space_file.is_file():
        if folder.results_file.exists():
            raise StorageError(
                f"{folder.root} holds results but no space.yaml, so nothing says what they mean. "
                "Restore the file, or choose another folder with --output."
            )
        return
    stored = settings_from_text(folder.space_file.read_text(encoding="utf-8"))
    if not folder.results_file.exists():
        stored, settings = _without_twins(stored), _without_twins(settings)
    if differing := differing_keys(stored, settings, ignoring=MAY_CHANGE):
        raise ConfigError(
            f"{folder.root} was started with another search space; these keys differ: "
            f"{', '.join(differing)}. Restore them, or choose another folder with --output. "
            f"Only {', '.join(MAY_CHANGE[:-1])} and {MAY_CHANGE[-1]} may change."
        )


def _without_twins(settings: StudySettings) -> StudySettings:
    kept = tuple(entry for entry in settings.warm_start if twin_row(entry) is None)
    return replace(settings, warm_start=kept)
