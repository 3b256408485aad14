"""The first minute of every start in a run folder, whatever follows in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from schedsearch.files.atomic import write_text
from schedsearch.config import dump_settings
from schedsearch.runs import costs as stages
from schedsearch.search.runners.logs import logging_to
from schedsearch.search.meter import Meter
from schedsearch.search.preflight import Preflight, check_before_start
from schedsearch.search.resuming import refuse_other_space

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings


@contextlib.contextmanager
def opened_run(
    settings: StudySettings, folder: RunFolder, observer: Observer
) -> Iterator[tuple[Preflight, Meter]]:
    """Lock a run folder, check everything that can be checked, and bind the folder to the space.

    Args:
        settings: The search space.
        folder: The run folder, new or of an earlier start.
        observer: Is told what happens.

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
        observer.stage("checking, and measuring the latency table")
        if not folder.space_file.exists():  # what a start that failed its checks left behind
            folder.latency_file.unlink(missing_ok=True)
        ready = check_before_start(settings, folder)
        if ready.rank_deficient:
            evaluation = settings.evaluation
            observer.warning(
                f"evaluation.num_samples is {evaluation.num_samples}, and {evaluation.features} "
                f"has {ready.bench.extractor.dim} features: the covariance behind FID lacks rank, "
                "so FIDs rank schedules worse than KID does. Take more samples than features"
            )
        # From here on the folder belongs to this space; a mistake found above can be put right.
        write_text(folder.space_file, dump_settings(settings))
        meter = Meter(folder, settings, began=began)
        meter.add_driver_work(stages.CHECKS, time.monotonic() - began)
        yield ready, meter
