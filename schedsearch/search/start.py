"""The first minute of every start in a run folder, whatever follows in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.config import differing_keys
from schedsearch.config.warm_starts import twin_row
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.mounts import network_file_system
from schedsearch.files.printable import without_passwords
from schedsearch.runs import costs as stages
from schedsearch.runs.checks.identity import RunIdentity, run_id_of
from schedsearch.runs.checks.journals import trial_journal
from schedsearch.runs.checks.space_file import read_space, write_space
from schedsearch.runs.costs import Costs
from schedsearch.search.meter import Meter
from schedsearch.search.preflight import Preflight, check_before_start
from schedsearch.search.runners.logs import logging_to

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings

MAY_CHANGE = (
    "search.n_trials", "search.budget", "search.trial_timeout", "resources", "plan", "rivals",
)  # fmt: skip
"""Keys that may differ when a run is resumed."""

MOST_SHOWN = 60
"""Characters of a value in a message."""


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
        kind = network_file_system(folder.root)
        if kind is not None and settings.search.storage is None:
            observer.warning(
                f"{folder.shown} lies on {kind}, where SQLite's locks may fail. Choose a local "
                "folder with --output, or name a database server in search.storage"
            )
        identity = identity_of(ready, folder)
        # From here on the folder belongs to this space; a mistake found above can be mended.
        identity.write(folder)
        ready.latency.save(folder)  # for this run: it was measured before there was one
        write_space(folder, settings)
        meter = Meter(folder, settings, Costs.load(folder), began=began)
        meter.add_driver_work(stages.CHECKS, time.monotonic() - began)
        yield ready, meter
        folder.remove_leftovers()  # of workers that were killed during this start


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
    stored = read_space(folder)
    if not folder.results_file.exists():
        stored, settings = _without_twins(stored), _without_twins(settings)
    if differing := differing_keys(stored, settings, ignoring=MAY_CHANGE):
        values = ", ".join(_both_values(key, stored, settings) for key in differing)
        raise ConfigError(
            f"{folder.root} was started with another search space; these keys differ: "
            f"{', '.join(differing)}. Stored and new values: {values}. Restore them, or choose "
            "another folder with --output. Only "
            f"{', '.join(MAY_CHANGE[:-1])} and {MAY_CHANGE[-1]} may change."
        )


def identity_of(ready: Preflight, folder: RunFolder) -> RunIdentity:
    """The identity of a run, new or kept; its data must be the same.

    Raises:
        ConfigError: If other data lies behind the same paths than when the run was started.
        StorageError: If ``run.json`` is damaged.
    """
    bench = ready.bench
    now = RunIdentity(
        data=bench.source.fingerprint,
        num_images=bench.source.num_images,
        reference=bench.reference_source.fingerprint,
        num_reference_images=bench.reference_source.num_images,
        extractor=bench.extractor.sha256,
    )
    kept = RunIdentity.read(folder)
    if kept is None or not folder.space_file.is_file():
        _refuse_other_protocol(ready, folder)
        return replace(now, run_id=run_id_of(folder) or now.run_id)
    kept.refuse_other_data(now, folder.shown)
    return kept


def _refuse_other_protocol(ready: Preflight, folder: RunFolder) -> None:
    """For a folder that does not say which data its results come from.

    Raises:
        ConfigError: If they have another protocol than this start.
    """
    if not folder.results_file.exists():
        return
    evaluation = ready.settings.evaluation
    own = ready.bench.protocol(seed=evaluation.seed, num_samples=evaluation.num_samples)
    for record in trial_journal(folder, ready.settings).read():
        if record.evaluation is not None and record.evaluation.protocol != own:
            raise ConfigError(
                "All trials of a run compare by one protocol, but those of "
                f"{folder.shown} have {record.evaluation.protocol}, and this start has {own}: the "
                "data or the extractor has changed. Restore it, or choose another folder with "
                "--output."
            )


def _both_values(key: str, stored: StudySettings, settings: StudySettings) -> str:
    """A key with its old and new value; a password is left out."""
    old, new = (_shown(_value_of(key, whole)) for whole in (stored, settings))
    return f"{key} {old} -> {new}"


def _value_of(key: str, settings: StudySettings) -> object:
    value: object = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = without_passwords(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _without_twins(settings: StudySettings) -> StudySettings:
    kept = tuple(entry for entry in settings.warm_start if twin_row(entry) is None)
    return replace(settings, warm_start=kept)
